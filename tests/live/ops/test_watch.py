"""`fanout-node status --watch` and `fanout-sidecar top`, on terminals and in pipes."""

import json
import os
import signal
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
import redis

from fanout.runtime.redis.redis_server import free_port
from fanout.terminal.screen import ENTER, LEAVE
from tests.support.live.authority import Authority
from tests.support.live.fleet import Fleet, Process, command
from tests.support.live.terminal import COLOUR, open_terminal

pytestmark = pytest.mark.live

STOPPED = 30.0
NOT_WHOLE = ("--discovery", "redis://127.0.0.1:1")
"""With an instance that never answers a fleet stays not whole."""


def status(fleet: Fleet, *extra: str) -> list[str]:
    """Return the command that watches a fleet."""
    discovery = [flag for url in fleet.discovery for flag in ("--discovery", url)]
    return [command("fanout-node"), "status", "--watch", "--every-seconds=0.2", *discovery, *extra]


def top(sidecar: Process, *extra: str) -> list[str]:
    """Return the command that shows a sidecar."""
    return [command("fanout-sidecar"), "top", "--admin-url", sidecar.ready["admin"], *extra]


def small_fleet(fleet: Fleet) -> tuple[Process, Process]:
    """Start two nodes and a sidecar; return the first node and the sidecar."""
    fleet.add_discovery()
    node = fleet.node("node-0")
    fleet.node("node-1")
    return node, fleet.sidecar("one")


def test_a_watch_draws_over_itself_and_gives_the_terminal_back(fleet: Fleet) -> None:
    """However it is ended; the exit code is that of the last look."""
    small_fleet(fleet)

    def ended(how: str | int, *extra: str, expected: int) -> None:
        with open_terminal(*status(fleet, *extra)) as terminal:
            terminal.shows("cluster default")
            first = terminal.picture()
            terminal.wait(lambda: terminal.picture()[0][:20] > first[0][:20])
            assert terminal.keys() != terminal.found
            if isinstance(how, str):
                terminal.type(how)
            else:
                terminal.popen.send_signal(how)
            assert terminal.end() == expected
            assert terminal.keys() == terminal.found
            assert terminal.said.startswith(ENTER)
            assert terminal.said.endswith(LEAVE)
            assert terminal.said.count(ENTER) == terminal.said.count(LEAVE) == 1
            assert "\x1b[2J" not in terminal.said  # that would flicker

    for how in ("q", "\x03", signal.SIGTERM, signal.SIGHUP):
        ended(how, expected=0)
    ended("\x03", *NOT_WHOLE, expected=1)


def test_a_watch_has_colours_unless_they_are_not_wanted(fleet: Fleet) -> None:
    """NO_COLOR; and a terminal that cannot be drawn on is written to line by line."""
    small_fleet(fleet)
    with open_terminal(*status(fleet)) as terminal:
        terminal.shows("whole")
        assert "\x1b[32mactive\x1b[0m" in terminal.said
    with open_terminal(*status(fleet), env={"NO_COLOR": "1"}) as terminal:
        terminal.shows("whole")
        assert COLOUR.search(terminal.said) is None
    with open_terminal(*status(fleet), env={"TERM": "dumb"}) as terminal:
        terminal.wait(lambda: terminal.said.count("\r\nwhole\r\n") > 1)
        terminal.type("\x03")
        assert terminal.end() == 0
        assert "\x1b" not in terminal.said


def test_ctrl_z_gives_the_terminal_back_meanwhile(fleet: Fleet) -> None:
    """And fg takes it again."""
    small_fleet(fleet)
    with open_terminal(*status(fleet)) as terminal:
        terminal.shows("whole")
        terminal.type("\x1a")
        terminal.wait(lambda: terminal.said.endswith(LEAVE))
        _, state = os.waitpid(terminal.popen.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(state)
        assert terminal.keys() == terminal.found

        terminal.popen.send_signal(signal.SIGCONT)
        terminal.wait(lambda: terminal.said.count(ENTER) == 2)
        terminal.shows("whole")
        terminal.type("q")
        assert terminal.end() == 0
        assert terminal.keys() == terminal.found


def test_a_watch_in_a_pipe_is_text_or_json(fleet: Fleet) -> None:
    """One table or object after the other, with its time; a reader that leaves ends it."""
    small_fleet(fleet)
    text = fleet.start(*status(fleet))
    assert text.says(b"\nwhole\n\n")
    assert text.says(b"\nwhole\n\n20")
    assert text.stop(signal.SIGTERM) == 0
    assert b"\x1b" not in text.said

    lines = fleet.start(*status(fleet, "--json"))
    assert lines.says(b"}\n{")
    first = json.loads(lines.said.split(b"\n")[0])
    assert first["whole"] is True
    assert first["time"].endswith("Z")
    assert lines.stop(signal.SIGINT) == 0
    lines = fleet.start(*status(fleet, "--json", *NOT_WHOLE))
    assert lines.says(b"}\n")
    assert lines.stop(signal.SIGINT) == 1
    assert b'"whole": false' in lines.said

    with subprocess.Popen(status(fleet), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as left:
        assert left.stdout is not None
        assert left.stderr is not None
        left.stdout.readline()
        left.stdout.close()
        assert left.wait(STOPPED) == 141
        assert left.stderr.read() == b""


@pytest.mark.parametrize(
    "words",
    [
        ("fanout-node", "status"),
        ("fanout-node", "drain", "--id", "node-0"),
        ("fanout-sidecar", "gateway", "status"),
    ],
)
def test_a_reader_that_has_left_is_no_traceback(fleet: Fleet, words: tuple[str, ...]) -> None:
    """Of no short command: it ends as what SIGPIPE ends."""
    fleet.add_discovery()
    fleet.node("node-0")
    name, *rest = words
    asked = [command(name), *rest, "--discovery", fleet.discovery[0]]
    with subprocess.Popen(asked, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as left:
        assert left.stdout is not None
        assert left.stderr is not None
        left.stdout.close()
        assert left.wait(STOPPED) == 141
        assert left.stderr.read() == b""


def test_top_shows_what_goes_through(fleet: Fleet) -> None:
    """Nodes, clients and channels with their rates; a killed node is shown; it fits any size."""
    node, sidecar = small_fleet(fleet)
    with (
        redis.Redis(port=sidecar.port("resp"), client_name="reader") as reader,
        reader.pubsub() as pubsub,
        redis.Redis(port=sidecar.port("resp"), client_name="writer") as writer,
        open_terminal(*top(sidecar), env={"COLUMNS": "200", "LINES": "100"}) as terminal,
    ):
        pubsub.subscribe("busy-channel")

        def busy() -> bool:
            writer.publish("busy-channel", b"x" * 10)
            while pubsub.get_message() is not None:
                pass
            rows = {line.split()[0]: line.split() for line in terminal.picture() if line.strip()}
            wanted = {"node-0", "node-1", "reader", "writer", "busy-channel"}
            return wanted <= rows.keys() and rows["writer"][2] != "0" and rows["reader"][3] != "0"

        terminal.wait(busy)
        assert "\x1b[32mactive\x1b[0m" in terminal.said
        terminal.resize(50, 12)
        terminal.wait(lambda: max(map(len, terminal.picture())) <= 50)
        assert len(terminal.picture()) <= 12
        terminal.resize(100, 40)
        node.stop(signal.SIGKILL)
        terminal.shows("node-0 fell silent")
        terminal.type("q")
        assert terminal.end() == 0
        assert terminal.keys() == terminal.found
        assert terminal.said.endswith(LEAVE)


def test_top_in_a_pipe_is_text_or_json(fleet: Fleet) -> None:
    """Looks with rates only; one of them with --once."""
    _, sidecar = small_fleet(fleet)
    once = fleet.start(*top(sidecar, "--once"))
    assert once.says(b"CHANNEL")
    assert once.popen.wait(STOPPED) == 0
    assert b"\x1b" not in once.said
    assert once.said.count(b"NODE ") == 1

    lines = fleet.start(*top(sidecar, "--json"))
    assert lines.says(b"}\n{")
    assert lines.says(b"}\n{")
    assert lines.stop(signal.SIGTERM) == 0
    looks = [json.loads(line) for line in lines.said.splitlines()[:2]]
    assert all(look["seconds"] > 0 for look in looks)
    assert all(one["number"] < two["number"] for one, two in pairwise(looks))
    assert {each["id"] for each in looks[0]["nodes"]} == {"node-0", "node-1"}


def test_top_outlives_a_sidecar_that_is_restarted(fleet: Fleet) -> None:
    """Meanwhile it shows the last snapshot, and why it is disconnected."""
    fleet.add_discovery()
    fleet.node("node-0")
    door = f"127.0.0.1:{free_port('127.0.0.1')}"
    sidecar = fleet.sidecar("one", "--admin", door)
    with open_terminal(*top(sidecar)) as terminal:
        terminal.shows("ready  one")
        assert sidecar.stop() == 0
        terminal.shows("disconnected: ")
        fleet.sidecar("two", "--admin", door)
        terminal.shows("ready  two")
        assert not any("disconnected: " in line for line in terminal.picture())


def test_top_speaks_tls(fleet: Fleet, tmp_path: Path) -> None:
    """Also where the door asks for a certificate."""
    authority = Authority(tmp_path, "one")
    certificate = str(authority.issue("door"))
    ca = str(authority.ca)
    fleet.add_discovery()
    fleet.node("node-0")
    sidecar = fleet.sidecar("one", "--tls-cert", certificate, "--tls-client-ca", ca)

    def run(*extra: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            top(sidecar, "--once", *extra), capture_output=True, text=True, check=False
        )

    seen = run("--tls-ca", ca, "--tls-client-cert", certificate)
    assert (seen.returncode, seen.stderr) == (0, "")
    assert "node-0" in seen.stdout
    for extra in ((), ("--tls-ca", ca)):
        refused = run(*extra)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr.startswith("Error: no live feed at https://")
        assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("door", "words"),
    [("resp", "not an HTTP server"), ("ws", "refused with status"), ("none", "refused")],
)
def test_top_says_why_there_is_nothing_to_show(fleet: Fleet, door: str, words: str) -> None:
    """One line, with the way out, and exit code 1."""
    port = free_port("127.0.0.1")
    if door != "none":
        fleet.add_discovery()
        fleet.node("node-0")
        port = fleet.sidecar("one").port(door)
    asked = subprocess.run(
        [command("fanout-sidecar"), "top", "--admin-url", f"http://127.0.0.1:{port}/"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (asked.returncode, asked.stdout) == (1, "")
    assert words in asked.stderr
    assert "--admin-url" in asked.stderr
    assert asked.stderr.count("\n") == 1
