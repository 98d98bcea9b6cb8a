"""The main job through the installed commands: three nodes, two sidecars, every kind of client."""

import base64
import os
import shutil
import signal
import subprocess
import time
from http.client import HTTPConnection
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
import redis
import trio
import trio_websocket

from tests.support.bridge_schema import received, sent
from tests.support.live.clients import client, direct_to, next_data, pubsub_of, subscribed
from tests.support.live.fleet import Fleet, Process, command
from tests.support.waiting import WAIT_SECONDS, until

pytestmark = pytest.mark.live


def three_nodes(fleet: Fleet) -> list[Process]:
    """Start discovery and three nodes."""
    fleet.add_discovery()
    return [fleet.node(f"node-{number}") for number in range(3)]


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_clients_reach_each_other_through_two_sidecars(fleet: Fleet, protocol: int) -> None:
    """Whatever is published at one sidecar reaches the subscribers of both, byte for byte."""
    three_nodes(fleet)
    one, two = fleet.sidecar("one"), fleet.sidecar("two")
    payloads = [b"", b"text", bytes(range(256)), os.urandom(1024 * 1024)]
    channel = b"bin\r\n\x00\xff channel"
    with (
        subscribed(one, channel, protocol=protocol) as near,
        subscribed(two, channel, protocol=protocol) as far,
        client(one, protocol) as publisher,
    ):
        for payload in payloads:
            assert publisher.publish(channel, payload) == 2
            assert next_data(near) == payload
            assert next_data(far) == payload


def test_publish_counts_as_redis_does(fleet: Fleet) -> None:
    """With one sidecar the count is that of Redis: subscribers, plus each matching pattern."""
    three_nodes(fleet)
    sidecar = fleet.sidecar("one")
    with client(sidecar) as publisher, pubsub_of(publisher) as patterns:
        assert publisher.publish("news", "x") == 0
        with subscribed(sidecar, "news"), subscribed(sidecar, "news", "other"):
            assert publisher.publish("news", "x") == 2
            patterns.psubscribe("n*", "*s")
            assert patterns.get_message(timeout=WAIT_SECONDS)["type"] == "psubscribe"
            assert patterns.get_message(timeout=WAIT_SECONDS)["type"] == "psubscribe"
            assert publisher.publish("news", "x") == 4
            assert [next_data(patterns), next_data(patterns)] == [b"x", b"x"]


def test_channels_spread_over_the_nodes(fleet: Fleet) -> None:
    """Each of three nodes carries some of the channels, and all are heard."""
    nodes = three_nodes(fleet)
    sidecar = fleet.sidecar("one")
    names = [f"channel-{number}" for number in range(60)]

    def published(node: Process) -> int:
        with direct_to(node) as direct:
            stats: dict[str, Any] = direct.info("commandstats")
            return int(stats["cmdstat_publish"]["calls"])

    with subscribed(sidecar, *names) as pubsub, client(sidecar) as publisher:
        before = [published(node) for node in nodes]
        for name in names:
            assert publisher.publish(name, name) == 1
        assert {next_data(pubsub) for _ in names} == {name.encode() for name in names}
        assert all(published(node) > count for node, count in zip(nodes, before, strict=True))


def test_redis_cli_and_websocket_clients(fleet: Fleet) -> None:
    """redis-cli publishes, websocket clients at both sidecars hear it, and the other way round."""
    redis_cli = shutil.which("redis-cli")
    if redis_cli is None:
        pytest.skip("needs redis-cli: apt install redis-tools")
    three_nodes(fleet)
    one, two = fleet.sidecar("one"), fleet.sidecar("two")
    binary = bytes(range(256))

    async def main() -> None:
        url = f"ws://127.0.0.1:{two.port('ws')}/"
        async with trio_websocket.open_websocket_url(url, subprotocols=["fanout.v1.json"]) as ws:
            assert ws.subprotocol == "fanout.v1.json"

            async def ask(**request: Any) -> Any:
                await ws.send_message(sent(request))
                return received(await ws.get_message())

            assert received(await ws.get_message())["sidecar"] == "two"
            assert await ask(op="subscribe", channels=["news"], id=[1]) == {"type": "ok", "id": [1]}
            output = await trio.run_process(
                [redis_cli, "-p", str(one.port("resp")), "publish", "news", "hello"],
                capture_stdout=True,
            )
            assert output.stdout.strip() == b"1"
            expected = {"type": "message", "channel": "news", "data": "hello"}
            assert received(await ws.get_message()) == expected
            with subscribed(one, "back") as pubsub:
                encoded = base64.b64encode(binary).decode()
                reply = await ask(op="publish", channel="back", data_base64=encoded, id=2)
                assert reply == {"type": "ok", "id": 2, "receivers": 1}
                assert next_data(pubsub) == binary
            await ws.send_message('{"op": "nonsense", "id": 3}')
            assert received(await ws.get_message())["code"] == "bad_request"

    trio.run(main)


def test_a_node_added_under_traffic_is_used(fleet: Fleet) -> None:
    """A node that joins takes its share, and no message is lost meanwhile."""
    fleet.add_discovery()
    fleet.node("node-0")
    sidecar = fleet.sidecar("one")
    names = [f"channel-{number}" for number in range(40)]
    with subscribed(sidecar, *names) as pubsub, client(sidecar) as publisher:
        new = fleet.node("node-1")

        def carried() -> bool:
            for name in names:
                assert publisher.publish(name, "x") == 1
                assert next_data(pubsub) == b"x"
            with direct_to(new) as direct:
                channels: Any = direct.execute_command("PUBSUB", "NUMSUB", *names)
                stats: Any = direct.info("commandstats")
            assert set(channels[1::2]) == {1}
            return int(stats["cmdstat_publish"]["calls"]) > 20

        until(carried)


def test_a_killed_node_is_left_and_comes_back(fleet: Fleet) -> None:
    """After SIGKILL of a node traffic goes on at once; a restarted one is used again."""
    nodes = three_nodes(fleet)
    sidecar = fleet.sidecar("one")
    names = [f"channel-{number}" for number in range(30)]

    def ready() -> bool:
        try:
            with urlopen(f"http://127.0.0.1:{sidecar.port('admin')}/readyz") as answer:
                return bool(answer.status == 200)
        except HTTPError as error:
            error.close()
            return False

    def round_trip(publisher: Any, pubsub: Any) -> None:
        for name in names:
            assert publisher.publish(name, name) == 1
            assert next_data(pubsub) == name.encode()

    with subscribed(sidecar, *names) as pubsub, client(sidecar) as publisher:
        round_trip(publisher, pubsub)
        assert nodes[0].stop(signal.SIGKILL) == -signal.SIGKILL
        until(lambda: not ready())
        round_trip(publisher, pubsub)
        until(ready)  # the lease of the dead node ran out
        fleet.node("node-0")
        until(ready)
        round_trip(publisher, pubsub)


def test_discovery_may_be_away_for_longer_than_the_lease(fleet: Fleet) -> None:
    """While discovery is stopped nothing changes for clients."""
    discovery = fleet.add_discovery()
    fleet.node("node-0")
    fleet.node("node-1")
    sidecar = fleet.sidecar("one")
    with subscribed(sidecar, "a", "b", "c") as pubsub, client(sidecar) as publisher:
        discovery.popen.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + 4  # the lease is 1.5 s
        while time.monotonic() < deadline:
            for name in ("a", "b", "c"):
                assert publisher.publish(name, "x") == 1
                assert next_data(pubsub) == b"x"
        discovery.popen.send_signal(signal.SIGCONT)
        fleet.node("node-2")
        assert publisher.publish("a", "x") == 1


def test_a_slow_client_is_cut_off_alone(fleet: Fleet) -> None:
    """A client that reads nothing is disconnected; the one beside it misses nothing."""
    fleet.add_discovery()
    fleet.node("node-0")
    sidecar = fleet.sidecar("one", "--outbox-bytes-max", "1000000")
    payload = b"x" * 100_000
    with subscribed(sidecar, "c") as fast, subscribed(sidecar, "c"), client(sidecar) as publisher:
        counts = []
        for _ in range(300):
            counts.append(publisher.publish("c", payload))
            assert next_data(fast) == payload
        assert counts[0] == 2
        assert counts[-1] == 1


def test_signals_end_everything_in_order(fleet: Fleet) -> None:
    """SIGTERM: the sidecar leaves, then the node drains; both exit with 0 and no Redis stays."""
    fleet.add_discovery()
    node = fleet.node("node-0")
    sidecar = fleet.sidecar("one")
    port = node.port("redis")

    assert sidecar.stop() == 0
    assert node.stop() == 0
    with pytest.raises(redis.ConnectionError), redis.Redis(port=port) as direct:
        direct.ping()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_local_fleet_leaves_nothing_behind(fleet: Fleet, number: int) -> None:
    """Ctrl-C, and even SIGKILL, of a local fleet ends every process it started."""
    local = fleet.start(
        command("fanout-sidecar"), "--local", "3", "--resp", "127.0.0.1:0", "--ws",
        "127.0.0.1:0", "--admin", "127.0.0.1:0",
    )  # fmt: skip
    local.wait_line("ready resp=")
    assert local.ready["nodes"] == "3"
    with subscribed(local, "c") as pubsub, client(local) as publisher:
        assert publisher.publish("c", "x") == 1
        assert next_data(pubsub) == b"x"
    children = subprocess.run(
        ["pgrep", "-P", str(local.pid)], capture_output=True, check=True, text=True
    ).stdout.split()
    assert len(children) == 4

    assert local.stop(number) == (0 if number == signal.SIGINT else -signal.SIGKILL)

    until(lambda: not any(alive(int(pid)) for pid in children))


def alive(pid: int) -> bool:
    """Whether a process runs (and is no zombie)."""
    try:
        with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_pages_and_names_that_are_not_listed_are_refused(fleet: Fleet) -> None:
    """At the admin door and at the websocket door alike."""
    fleet.add_discovery()
    fleet.node("node-0")
    sidecar = fleet.sidecar("one", "--origin", "https://app.example", "--host", "door.example")

    def status(door: str, path: str, **headers: str) -> int:
        connection = HTTPConnection("127.0.0.1", sidecar.port(door), timeout=WAIT_SECONDS)
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        response.read()
        connection.close()
        return response.status

    for door, path, fine in (("admin", "/healthz", 200), ("ws", "/", 426)):
        assert status(door, path) in (fine, 400)
        assert status(door, path, Host="door.example") in (fine, 400)
    assert status("admin", "/healthz", Origin="https://app.example") == 200
    assert status("admin", "/healthz", Origin="https://evil.example") == 403
    assert status("admin", "/healthz", Host="evil.example") == 403

    async def connect(origin: str) -> None:
        port = sidecar.port("ws")
        headers = [(b"Origin", origin.encode())]
        # Not open_websocket_url: it leaves the socket open when it is refused.
        async with (
            await trio.open_tcp_stream("127.0.0.1", port) as stream,
            trio.open_nursery() as nursery,
        ):
            websocket = await trio_websocket.wrap_client_stream(
                nursery, stream, f"127.0.0.1:{port}", "/", extra_headers=headers
            )
            await websocket.aclose()

    trio.run(connect, "https://app.example")
    with pytest.RaisesGroup(trio_websocket.ConnectionRejected):
        trio.run(connect, "https://evil.example")
