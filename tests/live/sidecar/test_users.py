"""Users through the installed commands: logins, rights, rotation by SIGHUP, no secret anywhere."""

import base64
import json
import signal
from pathlib import Path
from typing import Any

import pytest
import redis
import trio
import trio_websocket

from fanout.client import open_client
from fanout.core.access import digest
from tests.support.live.clients import direct_to, pubsub_of
from tests.support.live.fleet import FAST, Fleet, Process, command
from tests.support.waiting import until
from tests.support.wire.rfc6455 import CLOSE, HANDSHAKE, TEXT, sent_frames

pytestmark = pytest.mark.live

CANARY = "canary-secret"


def write(path: Path, secrets: list[str], subscribe: str = "*") -> None:
    """Write a file with one user."""
    lines = [
        "[users.app]",
        f"secrets = {json.dumps([digest(each.encode()) for each in secrets])}",
        'publish = ["*"]',
        f'subscribe = ["{subscribe}"]',
    ]
    path.write_text("\n".join(lines))


def guarded(fleet: Fleet, path: Path) -> Process:
    """Start a sidecar with that file of users."""
    fleet.add_discovery()
    fleet.node("node-0")
    return fleet.sidecar("one", "--users", str(path))


def client(sidecar: Process, secret: str, user: str = "app") -> redis.Redis:
    """Return a stock client that logs in."""
    return redis.Redis(port=sidecar.port("resp"), username=user, password=secret, socket_timeout=10)


def test_rights_and_rotation(fleet: Fleet, tmp_path: Path) -> None:
    """A new secret works beside the old one; one taken back cuts its clients, others stay."""
    path = tmp_path / "users.toml"
    write(path, [CANARY])
    sidecar = guarded(fleet, path)
    nobody = redis.Redis(port=sidecar.port("resp"))
    with pytest.raises(redis.AuthenticationError), nobody:
        nobody.publish("c", "x")
    with pytest.raises(redis.AuthenticationError), client(sidecar, "wrong") as wrong:
        wrong.publish("c", "x")

    def reload(event: bytes) -> None:
        seen = sidecar.log.read_bytes().count(event)
        sidecar.popen.send_signal(signal.SIGHUP)
        until(lambda: sidecar.log.read_bytes().count(event) > seen)

    with client(sidecar, CANARY) as old, pubsub_of(old) as old_sub:
        old_sub.subscribe("c")
        assert old_sub.get_message(timeout=10)["type"] == "subscribe"
        write(path, [CANARY, "second"])
        reload(b"users_reloaded")
        with client(sidecar, "second") as new, pubsub_of(new) as new_sub:
            new_sub.subscribe("c")
            assert new_sub.get_message(timeout=10)["type"] == "subscribe"
            assert new.publish("c", "both") == 2
            path.write_text("not = [toml")
            reload(b"users_not_reloaded")
            assert new.publish("c", "still") == 2
            write(path, ["second"])
            reload(b"users_reloaded")
            assert new.publish("c", "one") == 1
            write(path, ["second"], subscribe="other")
            reload(b"users_reloaded")
            assert new.publish("c", "none") == 0
            with client(sidecar, "second") as late, pubsub_of(late) as late_sub:
                late_sub.subscribe("c")
                with pytest.raises(redis.exceptions.NoPermissionError):
                    late_sub.get_message(timeout=10)
    assert CANARY.encode() not in sidecar.log.read_bytes()
    assert CANARY.encode() not in sidecar.said


def test_websocket_tokens(fleet: Fleet, tmp_path: Path) -> None:
    """By the first message, by subprotocol, by header; and not at all."""
    path = tmp_path / "users.toml"
    write(path, [CANARY])
    sidecar = guarded(fleet, path)
    url = sidecar.ready["ws"]
    hidden = "fanout.token." + base64.urlsafe_b64encode(CANARY.encode()).decode().rstrip("=")

    async def subscribe(ws: Any) -> Any:
        await ws.send_message(json.dumps({"op": "subscribe", "channels": ["c"], "id": 1}))
        while (answer := json.loads(await ws.get_message())).get("id") != 1:
            pass
        return answer.get("code", answer["type"])

    async def main() -> None:
        async with trio_websocket.open_websocket_url(url) as ws:
            assert await subscribe(ws) == "unauthenticated"
            await ws.send_message(json.dumps({"op": "auth", "token": CANARY}))
            assert await subscribe(ws) == "ok"
        async with trio_websocket.open_websocket_url(
            url, subprotocols=["fanout.v1.json", hidden]
        ) as ws:
            assert ws.subprotocol == "fanout.v1.json"
            assert await subscribe(ws) == "ok"
        async with open_client(url, token=CANARY) as service:
            assert await service.publish("c", b"x") == 0
        port = sidecar.port("ws")
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(HANDSHAKE.replace(b"Host: h", b"Host: localhost:%d" % port))
            said = b""
            while data := await stream.receive_some():
                said += data
        frames = list(sent_frames(said.partition(b"\r\n\r\n")[2]))
        assert [opcode for opcode, _ in frames] == [TEXT, CLOSE]
        assert frames[1][1][:2] == (4010).to_bytes(2)

    trio.run(main)
    assert CANARY.encode() not in sidecar.log.read_bytes()


def test_who_does_not_log_in_is_cut_off(fleet: Fleet, tmp_path: Path) -> None:
    """In time, and before it can make the sidecar hold much."""
    path = tmp_path / "users.toml"
    write(path, [CANARY])
    sidecar = guarded(fleet, path)

    async def main() -> None:
        port = sidecar.port("resp")
        async with (
            await trio.open_tcp_stream("127.0.0.1", port) as idle,
            await trio.open_tcp_stream("127.0.0.1", port) as big,
            await trio.open_tcp_stream("127.0.0.1", port) as many,
        ):
            await big.send_all(b"*2\r\n$4\r\nAUTH\r\n$16385\r\n")
            assert b"unauthenticated bulk length" in await big.receive_some()
            await many.send_all(b"*11\r\n")
            assert b"unauthenticated multibulk length" in await many.receive_some()
            with trio.fail_after(20):
                assert b"login_timeout" in await idle.receive_some()
                assert await idle.receive_some() == b""

    trio.run(main)


def test_a_wrong_file_is_refused_at_start(fleet: Fleet, tmp_path: Path) -> None:
    """With exit code 2, the file's name and what is wrong; without what it holds."""
    path = tmp_path / "users.toml"
    for text, says in ((f'[users.u]\nsecrets = ["{CANARY}"]', "sha256:"), ("x", "not TOML")):
        path.write_text(text)
        sidecar = fleet.start(
            command("fanout-sidecar"),
            "--discovery", "redis://127.0.0.1:1", "--users", str(path), "--resp", "127.0.0.1:0",
            "--ws", "127.0.0.1:0", "--admin", "127.0.0.1:0",
        )  # fmt: skip
        assert sidecar.popen.wait(30) == 2
        log = sidecar.log.read_text()
        assert says in log
        assert CANARY not in log
        assert "Traceback" not in log


def test_discovery_cannot_send_a_sidecar_to_other_networks(fleet: Fleet) -> None:
    """A node elsewhere is said and not connected to; within the allowed networks all is as ever."""
    fleet.add_discovery()
    node = fleet.node("n1")
    fleet.sidecar("s1", "--node-network", "127.0.0.0/8")
    lost = fleet.start(
        command("fanout-sidecar"), "--id", "s2", "--discovery", fleet.discovery[0],
        "--resp", "127.0.0.1:0", "--ws", "127.0.0.1:0", "--admin", "127.0.0.1:0", *FAST,
        "--node-network", "10.0.0.0/8", "--node-network", "fd00::/8",
    )  # fmt: skip
    until(lambda: "outside the allowed networks" in lost.log.read_text())
    with direct_to(node) as direct:
        assert direct.pubsub_numsub("__fanout:probe:s1") == [(b"__fanout:probe:s1", 1)]
        assert direct.pubsub_numsub("__fanout:probe:s2") == [(b"__fanout:probe:s2", 0)]
    assert b"ready" not in lost.said
    assert lost.stop() == 0
