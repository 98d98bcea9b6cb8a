"""The live page and its feed through the installed command: by HTTP, and in a browser."""

import base64
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from fanout.core.access import digest
from tests.support.live.authority import Authority
from tests.support.live.fleet import FAST, Fleet, Process, command
from tests.support.waiting import until

pytestmark = pytest.mark.live

SCRIPT = Path(__file__).with_name("live_page.js")
BROWSER_SECONDS = 100


def local(fleet: Fleet) -> Process:
    """Start a whole fleet of three nodes with the one command."""
    doors = ("--resp", "127.0.0.1:0", "--ws", "127.0.0.1:0", "--admin", "127.0.0.1:0")
    sidecar = fleet.start(command("fanout-sidecar"), "--local", "3", *doors, *FAST)
    sidecar.wait_line("discovery ")
    fleet.discovery.append(f"redis://{sidecar.ready['redis']}")
    sidecar.wait_line("ready resp=")
    return sidecar


def redis_of(sidecar: Process, node: str) -> int:
    """Return the process of a node's Redis."""
    lines = [json.loads(line) for line in sidecar.log.read_text().splitlines()]
    (pid,) = [
        each["pid"]
        for each in lines
        if (each["event"], each.get("node")) == ("redis_started", node)
    ]
    return int(pid)


def browse(scene: str, sidecar: Process, **how: Any) -> dict[str, list[str]]:
    """Have a browser do a scene at a sidecar's page; return what it saw."""
    node, modules = shutil.which("node"), os.environ.get("FANOUT_TEST_NODE_MODULES")
    chromium = shutil.which("chromium")
    if node is None or modules is None or chromium is None:
        pytest.skip("needs chromium, node and the modules named in .ci/run")
    how = {
        "scene": scene, "url": sidecar.ready["admin"], "chromium": chromium,
        "sidecar": sidecar.pid, "width": 1280, "height": 900, "scheme": "light", **how,
    }  # fmt: skip
    done = subprocess.run(
        [node, str(SCRIPT), json.dumps(how)],
        env={**os.environ, "NODE_PATH": modules},
        capture_output=True,
        text=True,
        timeout=BROWSER_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("width", "height", "scheme"), [(1280, 900, "light"), (360, 740, "dark")], ids=["wide", "phone"]
)
def test_a_person_sees_a_node_fail_and_a_message_arrive(
    fleet: Fleet, width: int, height: int, scheme: str
) -> None:
    """In words and in red; with nothing to complain of, and no request to anywhere else."""
    sidecar = local(fleet)
    process = redis_of(sidecar, "node-2")
    agent = fleet.node("node-4")
    window = {"width": width, "height": height, "scheme": scheme}
    seen = browse("fleet", sidecar, redis=process, agent=agent.pid, **window)

    assert seen["complaints"] == []
    doors = {f"127.0.0.1:{sidecar.port(door)}" for door in ("admin", "ws")}
    assert set(seen["hosts"]) == doors


def test_a_person_logs_in_and_sees_the_sidecar_leave(fleet: Fleet, tmp_path: Path) -> None:
    """Errors are shown with their code; what is old is not shown as if it were so now."""
    users = tmp_path / "users.toml"
    users.write_text(
        f'[users.app]\nsecrets = ["{digest(b"canary")}"]\npublish = ["*"]\nsubscribe = ["news"]\n'
    )
    fleet.add_discovery()
    fleet.node("node-1")
    sidecar = fleet.sidecar("one", "--users", str(users))
    browse("login", sidecar, token="canary")

    assert sidecar.popen.wait(60) == 0
    assert "canary" not in sidecar.log.read_text()


def events(response: httpx.Response) -> Iterator[tuple[str, Any]]:
    """Yield (event, value) of a text/event-stream."""
    name = ""
    for line in response.iter_lines():
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, json.loads(value)


def test_the_feed_over_tls(fleet: Fleet, tmp_path: Path) -> None:
    """Looks with rates, events as they happen, the end; the page speaks to the door over TLS too."""
    authority = Authority(tmp_path, "ca")
    fleet.add_discovery()
    first = fleet.node("node-1")
    fleet.node("node-2")
    sidecar = fleet.sidecar("one", "--tls-cert", str(authority.issue("door")))
    context = ssl.create_default_context(cafile=str(authority.ca))
    with httpx.Client(
        base_url=f"https://localhost:{sidecar.port('admin')}", verify=context
    ) as http:
        assert http.get("/live").json()["sidecar"] == "one"
        policy = http.get("/").headers["content-security-policy"]
        assert f"connect-src 'self' wss://127.0.0.1:{sidecar.port('ws')} wss://localhost:" in policy
        assert "unsafe" not in policy
        for path in ("/", "/live", "/events"):
            assert http.get(path, headers={"origin": "https://evil.example"}).status_code == 403
            assert http.get(path, headers={"host": "evil.example"}).status_code == 403

        told, looks = [], 0
        with http.stream("GET", "/events") as response:
            assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
            for event, value in events(response):
                if event == "membership":
                    told.append((value["event"], value.get("node"), value.get("state")))
                elif event == "snapshot":
                    looks += 1
                    if looks == 2:
                        assert value["nodes"][0]["published_per_second"] == 0
                        first.popen.send_signal(signal.SIGTERM)
                    if [each["id"] for each in value["nodes"]] == ["node-2"] and looks > 2:
                        sidecar.popen.send_signal(signal.SIGTERM)
            assert (event, value) == ("closing", {"reason": "shutdown"})
    assert ("member_changed", "node-1", "draining") in told
    assert ("member_left", "node-1", None) in told
    assert sidecar.popen.wait(60) == 0


def test_a_reader_that_takes_nothing_does_not_hold_the_sidecar(fleet: Fleet) -> None:
    """Nor does one that has asked for much; others read meanwhile."""
    fleet.add_discovery()
    fleet.node("node-1")
    sidecar = fleet.sidecar("one")
    address = ("127.0.0.1", sidecar.port("admin"))
    request = b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n"
    stuck = []
    for asked in (request % b"/events", 200 * (request % b"/metrics")):
        reader = socket.socket()
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect(address)
        reader.sendall(asked)
        stuck.append(reader)
    until(lambda: httpx.get(sidecar.ready["admin"] + "live").json()["number"] >= 3)
    with redis.Redis(port=sidecar.port("resp")) as client:
        assert client.publish("c", "x") == 0

    assert sidecar.stop() == 0
    for reader in stuck:
        reader.close()


def test_the_websocket_door_lets_in_the_page_of_its_own_sidecar_only(fleet: Fleet) -> None:
    """Not that of another sidecar beside it, nor of another port."""
    fleet.add_discovery()
    fleet.node("node-1")
    one, other = fleet.sidecar("one"), fleet.sidecar("other")

    def status(origin: str) -> int:
        key = base64.b64encode(bytes(16)).decode()
        headers = {
            "connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13",
            "sec-websocket-key": key, "origin": origin,
        }  # fmt: skip
        with httpx.stream("GET", f"http://127.0.0.1:{one.port('ws')}/", headers=headers) as answer:
            return answer.status_code

    assert status(f"http://localhost:{one.port('admin')}") == 101
    assert status(f"http://localhost:{other.port('admin')}") == 403
    assert status(f"http://localhost:{one.port('ws')}") == 403
