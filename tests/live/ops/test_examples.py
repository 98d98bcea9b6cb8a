"""The programs of examples/, run as they stand over two sidecars of one fleet."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from fanout.runtime.redis.redis_server import free_port
from tests.support.live.clients import client, next_data, subscribed
from tests.support.live.fleet import Fleet, Process

pytestmark = pytest.mark.live

EXAMPLES = Path(__file__).parents[3] / "examples"
SCRIPT = Path(__file__).with_name("examples_browser.js")


@attrs.frozen
class Pair:
    """Two sidecars of one fleet; the first one lets in pages of files."""

    fleet: Fleet
    one: Process
    two: Process

    def program(self, *words: str) -> Process:
        """Start an example whose standard input the test writes to."""
        modules = os.environ.get("FANOUT_TEST_NODE_MODULES", "")
        return self.fleet.start(*words, env={"NODE_PATH": modules}, stdin=subprocess.PIPE)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A fleet of two nodes and two sidecars."""
    with Fleet(tmp_path_factory.mktemp("examples")) as fleet:
        fleet.add_discovery()
        fleet.node("node-1")
        fleet.node("node-2")
        yield Pair(fleet, fleet.sidecar("one", "--origin", "null"), fleet.sidecar("two"))


def needed(*programs: str) -> list[str]:
    """Return where programs are, and require the modules of node."""
    found = [shutil.which(each) for each in programs]
    if None in found or "FANOUT_TEST_NODE_MODULES" not in os.environ:
        pytest.skip(f"needs {', '.join(programs)} and the modules named in .ci/run")
    return [each for each in found if each is not None]


def say(process: Process, line: str) -> None:
    """Type a line."""
    assert process.popen.stdin is not None
    process.popen.stdin.write(f"{line}\n".encode())
    process.popen.stdin.flush()


def leave(process: Process) -> None:
    """Type Ctrl-D; the program ends with nothing to complain of."""
    assert process.popen.stdin is not None
    process.popen.stdin.close()
    assert process.popen.wait(20) == 0
    assert process.log.read_text() == ""


def test_every_example_is_run() -> None:
    """A new one needs a test here."""
    assert {path.name for path in EXAMPLES.iterdir() if path.name != "__pycache__"} == {
        *("redis_chat.py", "socketio-chat", "trio_service.py", "browser.html"),
    }


def test_redis_chat(pair: Pair) -> None:
    """What one types both see, through different sidecars."""
    chats = {}
    for name, sidecar in (("ann", pair.one), ("ben", pair.two)):
        url = f"redis://127.0.0.1:{sidecar.port('resp')}"
        program = str(EXAMPLES / "redis_chat.py")
        chats[name] = pair.program(sys.executable, program, "--url", url, "--name", name)
        chats[name].wait_line("* joined")
    say(chats["ann"], "hello")
    for chat in chats.values():
        chat.wait_line("ann: hello")
    say(chats["ben"], "and to you")
    for chat in chats.values():
        chat.wait_line("ben: and to you")
    for chat in chats.values():
        leave(chat)


def test_socketio_chat(pair: Pair) -> None:
    """What a client of one server says, a client of the other one sees."""
    (node,) = needed("node")
    folder = EXAMPLES / "socketio-chat"
    chats = {}
    for name, sidecar in (("ann", pair.one), ("ben", pair.two)):
        port, url = str(free_port("127.0.0.1")), f"redis://127.0.0.1:{sidecar.port('resp')}"
        server = pair.program(node, str(folder / "server.js"), port, url)
        server.wait_line("ready")
        chat = pair.program(node, str(folder / "client.js"), f"http://127.0.0.1:{port}", name)
        chat.wait_line("* joined")
        chats[name] = chat
    for name, text in (("ann", "hello"), ("ben", "and to you")):
        say(chats[name], text)
        for chat in chats.values():
            chat.wait_line(f"{name}: {text}")
    for chat in chats.values():
        leave(chat)


def test_the_modules_of_the_socketio_chat_are_those_that_ci_installs() -> None:
    """In the same major versions, so that what is tested here is what npm gives a reader."""
    package = json.loads((EXAMPLES / "socketio-chat/package.json").read_text())
    installed = (EXAMPLES.parent / ".ci/run").read_text()

    for name, version in package["dependencies"].items():
        assert f" {name}@{version.lstrip('^').partition('.')[0]} " in installed


def test_trio_service(pair: Pair) -> None:
    """An order that comes through one sidecar is confirmed through the other one."""
    url = f"ws://127.0.0.1:{pair.two.port('ws')}/"
    service = pair.program(sys.executable, str(EXAMPLES / "trio_service.py"), "--url", url)
    service.wait_line("ready")
    with subscribed(pair.one, "orders:confirmed") as pubsub, client(pair.one) as publisher:
        assert publisher.publish("orders", "4711") == 1
        assert next_data(pubsub) == b"4711"
    service.wait_line("order 4711 confirmed to 1")

    assert service.stop() == 0
    assert service.log.read_text() == ""


def test_browser_page(pair: Pair) -> None:
    """Opened as a file, by two pages of one browser."""
    node, chromium = needed("node", "chromium")
    page = f"{(EXAMPLES / 'browser.html').as_uri()}#url=ws://127.0.0.1:{pair.one.port('ws')}/"
    how = {"page": page, "chromium": chromium, "sidecar": "one"}
    done = subprocess.run(
        [node, str(SCRIPT), json.dumps(how)],
        env={**os.environ, "NODE_PATH": os.environ["FANOUT_TEST_NODE_MODULES"]},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert (done.returncode, done.stderr, done.stdout) == (0, "", "[]\n")
