"""The commands of the documentation, run as they stand there."""

import asyncio
import importlib
import json
import os
import re
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
import redis
import trio
import trio_websocket

from tests.support.documents import DOCS, blocks
from tests.support.live.fleet import Fleet
from tests.support.live.pages import Page, lines_of, whole

pytestmark = pytest.mark.live

DISCOVERY = "10.0.0.5:6379"


@pytest.fixture
def page(fleet: Fleet, tmp_path: Path) -> Page:
    """A reader with a discovery Redis and a secret."""
    page = Page(fleet, tmp_path)
    page.redis(DISCOVERY)
    page.run_line(page.here(f"export FANOUT_DISCOVERY=redis://{DISCOVERY}"))
    page.run_line("export FANOUT_SECRET=of-the-fleet")
    return page


def start(page: Page, nodes: int = 2) -> None:
    """Start a fleet that a page takes for granted."""
    for number in range(1, nodes + 1):
        node = f"fanout-node --id node-{number} --spawn 10.0.0.1{number}:6379"
        page.run_line(page.here(node))
    page.run_line("fanout-sidecar --id sidecar-1")
    whole(page)


def denied(server: redis.Redis) -> set[bytes | str]:
    """Return the commands that a Redis has refused to users for want of a right."""
    log: Any = server.acl_log()
    return {entry["object"] for entry in log}


def test_quickstart(page: Page) -> None:
    """Both fleets carry a message, and the second one is whole."""
    for name in ("FANOUT_DISCOVERY", "FANOUT_SECRET"):
        del page.environment[name]  # the page says them by itself
    page.run("quickstart.md")

    for listener, text in zip(page.listeners, (b"hello", b"4711"), strict=True):
        assert listener.says(text)
    assert "whole" in page.said[-1]


def test_rolling_restart(page: Page) -> None:
    """A node drained by command starts again, and the fleet is whole."""
    start(page)
    page.run("how-to/rolling-restart.md")

    assert "node-1 is gone\n" in page.said
    assert page.said[-1].splitlines()[-1] == "whole"


def test_add_capacity(page: Page) -> None:
    """A node more, and then no longer."""
    start(page)
    page.run("how-to/add-capacity.md")

    assert "node-4  active" in page.said[-2]
    assert "node-4 is gone" in page.said[-1]


def test_managed_redis(page: Page) -> None:
    """With just the rights that the page gives: cooperative, and messages pass."""
    page.redis("10.0.0.21:6379")
    page.redis("10.0.0.22:6379")
    page.run("how-to/managed-redis.md")
    first = lines_of("how-to/managed-redis.md")[:4]
    for line in first:  # the same for another node, which the sidecar is there to be counted on
        page.run_line(page.here(line.replace("10.0.0.21", "10.0.0.22").replace("ed-1", "ed-2")))

    for host in ("10.0.0.21", "10.0.0.22"):
        with redis.Redis(port=int(page.port(host))) as managed:
            assert denied(managed) == {"acl|setuser"}  # which makes it cooperative
    page.heard("hello")
    assert any("cooperative" in said and "whole" in said for said in page.said)


def test_tls(page: Page) -> None:
    """A certificate made by hand is good for all three doors."""
    page.run_line(page.here("fanout-node --id node-1 --spawn 10.0.0.11:6379"))
    page.run("how-to/tls.md")

    ponged, ready = page.said[-2:]
    assert (ponged, json.loads(ready)["status"]) == ("+PONG\n+OK\n", "ready")
    context = ssl.create_default_context(cafile=str(page.folder / "ca.pem"))

    async def connect() -> None:
        url = f"wss://localhost:{page.port('7381')}/"
        async with trio_websocket.open_websocket_url(url, ssl_context=context) as ws:
            assert json.loads(await ws.get_message())["type"] == "hello"

    trio.run(connect)


def test_browser(page: Page) -> None:
    """The page's handshake is let in, another origin's is not."""
    page.run_line(page.here("fanout-node --id node-1 --spawn 10.0.0.11:6379"))
    page.run("how-to/browser.md")

    assert page.said[-1] == "101"
    ((_, script),) = blocks(DOCS / "how-to/browser.md", "js")
    (request,) = re.findall(r"socket\.send\('(.*)'\)", script)

    async def subscribe() -> Any:
        url = f"ws://127.0.0.1:{page.port('7381')}/"
        headers = [(b"origin", b"https://app.example")]
        async with trio_websocket.open_websocket_url(
            url, subprotocols=["fanout.v1.json"], extra_headers=headers
        ) as ws:
            await ws.send_message(request)
            await ws.get_message()  # the greeting
            return json.loads(await ws.get_message())

    assert trio.run(subscribe) == {"type": "ok", "id": 1}
    handshake = page.here(lines_of("how-to/browser.md")[-1])
    page.run_line(handshake.replace("app.example", "other.example"))
    assert page.said[-1] == "403"


def test_django_channels(page: Page) -> None:
    """Two processes with the page's settings share a group."""
    start(page)
    ((_, settings),) = blocks(DOCS / "how-to/django-channels.md", "python")
    names: dict[str, Any] = {}
    exec(page.here(settings), names)  # noqa: S102 - our own page
    setting = names["CHANNEL_LAYERS"]["default"]
    module, _, name = setting["BACKEND"].rpartition(".")
    layer = getattr(importlib.import_module(module), name)
    layers = [layer(**setting["CONFIG"]) for _ in range(2)]

    async def share() -> Any:
        one, two = layers
        name = await one.new_channel()
        await one.group_add("room", name)
        await two.group_send("room", {"type": "news", "text": "hello"})
        message = await one.receive(name)
        for layer in layers:
            await layer.flush()
        return message

    assert asyncio.run(share()) == {"type": "news", "text": "hello"}


def test_discovery(page: Page) -> None:
    """A discovery user with just the rights that the page lists is enough for all that is done."""
    ((_, rights),) = blocks(DOCS / "discovery.md", "text")
    page.run_line(page.here(f"export FANOUT_DISCOVERY=redis://member:canary@{DISCOVERY}"))
    with redis.Redis(port=int(page.port("10.0.0.5"))) as discovery:
        discovery.execute_command("ACL", "SETUSER", "member", "on", ">canary", *rights.split())
        start(page)
        page.run_line("fanout-node drain --id node-2 --wait")
        assert denied(discovery) == set()

    assert page.said[-1] == "node-2 is gone\n"


CLIENTS = """
const { io: connect } = require("socket.io-client");
const clients = [3000, 3001].map(port =>
  connect(`http://127.0.0.1:${port}`, { transports: ["websocket"] }));
let connected = 0;
for (const client of clients) client.on("connect", () => { connected += 1; });
clients[1].on("said", text => { console.log(text); process.exit(0); });
setInterval(() => { if (connected === 2) clients[0].emit("say", "hello"); }, 100);
"""


def test_socket_io(page: Page) -> None:
    """A client of one server hears a client of another one."""
    node, modules = shutil.which("node"), os.environ.get("FANOUT_TEST_NODE_MODULES")
    if node is None or modules is None:
        pytest.skip("needs node and the modules named in .ci/run, in FANOUT_TEST_NODE_MODULES")
    start(page)
    ((_, server),) = blocks(DOCS / "how-to/socket-io.md", "js")
    page.environment["NODE_PATH"] = modules
    for port in ("3000", "3001"):
        script = page.here(server).replace("3000", page.port(port))
        script += '\nio.httpServer.on("listening", () => console.log("ready"));'
        process = page.fleet.start(node, "-e", script, env=page.environment)
        process.wait_line("ready")
    clients = CLIENTS.replace("3000", page.port("3000")).replace("3001", page.port("3001"))
    done = subprocess.run(
        [node, "-e", clients],
        env=page.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert done.stdout == "hello\n"
