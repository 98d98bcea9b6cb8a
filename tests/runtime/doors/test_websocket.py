"""Websocket clients of a fleet: their events for gaps, for unheard nodes, and for the end."""

import contextlib
import json

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fanout.config import Limits
from fanout.runtime.doors.ws_connection import HANDSHAKE_SECONDS
from fanout.runtime.doors.ws_listener import CLOSING_SECONDS, GAP_SECONDS
from fanout.testing.network import MemoryNetwork
from fanout.values.names import Endpoint
from tests.support.runtime.fleet import LEASE, TIMINGS, memory_fleet
from tests.support.runtime.subscriber import gap, ok, subscriber
from tests.support.runtime.ws_client import WsConnection, open_websocket
from tests.support.wire.rfc6455 import BINARY, HANDSHAKE, PING, TEXT, close, frame, header

NOTICE = 2 * (TIMINGS.probe_interval_seconds + TIMINGS.probe_timeout_seconds)
"""Seconds after which a node that does not deliver has been noticed."""


@pytest.mark.parametrize("bytes_max", [1, 65_536])
async def test_clients_reach_each_other_through_two_sidecars(
    bytes_max: int, autojump_clock: MockClock
) -> None:
    """As text, as base64 and by binary frames, however the bytes are cut."""
    async with memory_fleet(network=MemoryNetwork(receive_bytes_max=bytes_max)) as fleet:
        one = await subscriber(fleet)
        two = await open_websocket(fleet.network, "sidecar-2")

        assert one.hello["sidecar"] == "sidecar-1" and two.hello["sidecar"] == "sidecar-2"
        assert one.hello["limits"]["payload_bytes"] == Limits().payload_bytes_max
        assert await two.ask(op="publish", channel="c", data="é", id=[2]) == ok([2], receivers=1)
        assert await one.next() == {"type": "message", "channel": "c", "data": "é"}
        assert await two.publish(b"c", b"\x00\xff", 2**32 - 1) == ok(2**32 - 1, receivers=1)
        assert await one.next() == {"type": "message", "channel": "c", "data_base64": "AP8="}
        assert await two.ask(op="psubscribe", patterns=["*"], id=None) == ok(None)
        two.send(frame(BINARY, b"\x01\x00\x01\xff" + b"raw"))
        expected = {"type": "message", "pattern": "*", "channel_base64": "/w==", "data": "raw"}
        assert await two.next() == expected


async def test_all_in_one_read_is_answered_in_order(autojump_clock: MockClock) -> None:
    """The handshake, the hello, the answer, and the Close frame at the end."""
    async with memory_fleet(nodes=1, sidecars=1) as fleet:
        client = WsConnection(await fleet.network.connect(Endpoint("sidecar-1", 7380)))
        client.send(HANDSHAKE + frame(TEXT, b'{"op":"ping","id":1}') + frame(TEXT, b"\xff"))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += await client.transport.receive_some(1)

        assert head.startswith(b"HTTP/1.1 101 ")
        assert await client.end() == 1007
        assert [each["type"] for each in client.frames] == ["hello", "ok"]


async def test_connections_are_numbered(autojump_clock: MockClock) -> None:
    """So that a log line and a client can be brought together."""
    async with memory_fleet(sidecars=1) as fleet:
        clients = [await open_websocket(fleet.network, "sidecar-1") for _ in range(3)]

        assert [client.hello["connection"] for client in clients] == [1, 2, 3]


async def test_a_crashed_node_is_a_gap_when_it_goes_and_when_it_is_back(
    autojump_clock: MockClock,
) -> None:
    """For subscribed clients; each reason once."""
    async with memory_fleet() as fleet:
        client, idle = await subscriber(fleet), await open_websocket(fleet.network, "sidecar-1")
        fleet.kill(fleet.redis["node-2"])

        assert await client.next(1) == gap("node-2", "lost")
        await idle.silence(0.5)
        await fleet.restart(fleet.redis["node-2"])
        assert await client.next() == gap("node-2", "heard")
        await client.silence(3 * LEASE)


async def test_a_node_that_does_not_come_back_is_given_up(autojump_clock: MockClock) -> None:
    """When its lease ends none of its messages can be missed any more."""
    async with memory_fleet() as fleet:
        client = await subscriber(fleet)
        fleet.kill(fleet.redis["node-2"])

        assert await client.next(1) == gap("node-2", "lost")
        assert await client.next(4 * LEASE) == gap("node-2", "left")


async def test_a_silent_node_is_a_gap_once_it_is_noticed(autojump_clock: MockClock) -> None:
    """A connection on which nothing comes is as bad as none."""
    async with memory_fleet() as fleet:
        client = await subscriber(fleet)
        fleet.network.freeze(fleet.redis["node-2"].endpoint)
        assert await client.next(NOTICE) == gap("node-2", "lost")
        fleet.network.thaw(fleet.redis["node-2"].endpoint)

        assert await client.next() == gap("node-2", "heard")


async def test_joining_leaving_and_restarting_in_order_are_no_gaps(
    autojump_clock: MockClock,
) -> None:
    """Nothing is missed, so nothing is said."""
    async with memory_fleet(nodes=2) as fleet:
        client = await subscriber(fleet)
        agent = await fleet.node("node-3")
        await client.silence(LEASE)
        assert await agent.leave() == 0
        await client.silence(LEASE)
        fleet.kill(fleet.redis["node-3"])
        await fleet.restart(fleet.redis["node-3"])
        await fleet.agent("node-3")
        await client.silence(2 * LEASE)
        assert await client.ask(op="ping", id=1) == ok(1)


async def test_a_link_that_flaps_is_no_flood(autojump_clock: MockClock) -> None:
    """Of one node a client gets the latest news, once a second at most."""
    async with memory_fleet() as fleet:
        client = await subscriber(fleet)
        began = trio.current_time()
        for _ in range(100):
            fleet.network.reset(fleet.redis["node-2"].endpoint)
            with trio.move_on_after(0.1):
                while await client._receive():
                    pass
        took = trio.current_time() - began
        await client.next()
        with trio.move_on_after(LEASE):
            while await client._receive():
                pass

        assert len(client.frames) <= took / GAP_SECONDS + 2
        assert client.frames[-1] == gap("node-2", "heard")


async def test_a_subscribe_says_which_node_is_not_heard(autojump_clock: MockClock) -> None:
    """It is confirmed once that node is known to be unheard; later ones at once."""
    async with memory_fleet() as fleet:
        fleet.network.freeze(fleet.redis["node-2"].endpoint)
        client = await open_websocket(fleet.network, "sidecar-1")
        client.ask_soon(op="subscribe", channels=["a"], id=1)
        assert await client.next(NOTICE + 30) == ok(1, degraded=["node-2"])
        # While the node answers nothing the lease is what keeps it among the active ones.
        assert await client.ask(op="subscribe", channels=["a"], id=2) == ok(2, degraded=["node-2"])
        assert await client.ask(op="psubscribe", patterns=["a"], id=3) == ok(3, degraded=["node-2"])
        assert await client.ask(op="unsubscribe", id=4) == ok(4)
        fleet.network.thaw(fleet.redis["node-2"].endpoint)
        assert await client.next() == gap("node-2", "heard")
        assert await client.ask(op="subscribe", channels=["a"], id=5) == ok(5)


@pytest.mark.parametrize("answers", [True, False])
async def test_a_leaving_sidecar_says_so_and_closes(
    *, answers: bool, autojump_clock: MockClock
) -> None:
    """First an event, then time to go on, at last 1012; no wait for clients that do not answer."""
    async with memory_fleet(sidecars=1) as fleet:
        client = await open_websocket(fleet.network, "sidecar-1")
        service = await fleet.sidecar("sidecar-2")
        leaving = await subscriber(fleet, "sidecar-2")
        began = trio.current_time()
        service.stop.requested.set()

        assert await leaving.next() == {"type": "closing", "reason": "shutdown"}
        with pytest.raises(ConnectionRefusedError):
            await fleet.network.connect(Endpoint("sidecar-2", 7380))
        assert await client.ask(op="publish", channel="c", data="x", id=2) == ok(2, receivers=1)
        assert (await leaving.next())["data"] == "x"
        assert await leaving.ask(op="ping", id=3) == ok(3)
        assert await leaving.end(answer=answers) == 1012
        await service.ended.wait()
        took = trio.current_time() - began
        assert service.code == 0
        assert CLOSING_SECONDS <= took <= CLOSING_SECONDS + (0.2 if answers else 1.2)


async def test_a_sidecar_without_websocket_clients_leaves_at_once(
    autojump_clock: MockClock,
) -> None:
    """And it waits no longer than its clients take to leave."""
    async with memory_fleet(sidecars=0) as fleet:
        service = await fleet.sidecar("sidecar-1")
        began = trio.current_time()
        await service.leave()
        assert trio.current_time() - began < 0.1

        service = await fleet.sidecar("sidecar-2")
        client = await subscriber(fleet, "sidecar-2")
        began = trio.current_time()
        service.stop.requested.set()
        assert (await client.next())["type"] == "closing"
        client.send(close(1000))
        assert await client.end(answer=False) == 1000
        await service.ended.wait()
        assert trio.current_time() - began < 0.1


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (close(3000), 3000),
        (header(BINARY, 2**63), 1009),
        (frame(TEXT, b"\xff"), 1007),
        (frame(TEXT, b"x", rsv=1), 1002),
    ],
)
async def test_every_end_has_its_close_frame_behind_all_answers(
    sent: bytes, code: int, autojump_clock: MockClock
) -> None:
    """What was asked before is answered, though a node is slow to; nothing follows the Close."""
    network = MemoryNetwork(delay_seconds=lambda: 0.05)
    async with memory_fleet(sidecars=1, network=network) as fleet:
        client = await subscriber(fleet)
        requests = b"".join(
            frame(TEXT, json.dumps({"op": "publish", "channel": "c", "data": "", "id": n}).encode())
            for n in range(3)
        )
        client.send(requests + sent)

        assert await client.end(answer=code != 3000) == code
        answers = [each["id"] for each in client.frames if each["type"] == "ok"]
        assert answers == [0, 1, 2]


async def test_our_close_frame_is_not_lost_to_a_reset(autojump_clock: MockClock) -> None:
    """TCP is closed only when the client closed too, or had a second for it."""
    async with memory_fleet(sidecars=1) as fleet:
        client = await open_websocket(fleet.network, "sidecar-1")
        client.send(header(BINARY, 2**40) + b"x" * 1000)
        began = trio.current_time()
        assert await client.end(answer=False) == 1009
        assert 0.9 < trio.current_time() - began < 1.1


async def test_a_client_that_reads_nothing_is_closed_with_a_reason(
    autojump_clock: MockClock,
) -> None:
    """Deliveries count, and so do pongs: a flood of pings is bounded like all else."""
    network = MemoryNetwork(buffer_bytes_max=10_000)
    async with memory_fleet(sidecars=0, network=network) as fleet:
        await fleet.sidecar("sidecar-1", limits=Limits(outbox_bytes_max=50_000))
        slow = await subscriber(fleet)
        publisher = await fleet.client("sidecar-1")
        for _ in range(40):
            await publisher.publish(b"c", b"x" * 4000)
        assert await slow.end() == 4008

        flooding = await open_websocket(fleet.network, "sidecar-1")
        sent = 0
        with contextlib.suppress(trio.BrokenResourceError), trio.fail_after(60):
            while True:
                sent += flooding.transport.send_nowait(frame(PING, b"y" * 120) * 10)
                await flooding.transport.wait_sendable()
                await trio.sleep(0.001)
        assert sent < 200_000


async def test_a_silent_client_is_pinged_and_then_closed(autojump_clock: MockClock) -> None:
    """One that answers stays for ever."""
    async with memory_fleet(sidecars=1) as fleet:
        client = await open_websocket(fleet.network, "sidecar-1")
        await client.silence(300)
        assert await client.ask(op="ping", id=1) == ok(1)
        client.pongs = False
        assert 25 * 0.75 + 8 <= await _seconds_until_closed(client) <= 25 * 1.25 + 8 + 1
        assert client.closed == 4009


async def _seconds_until_closed(client: WsConnection) -> float:
    began = trio.current_time()
    await client.end()
    return trio.current_time() - began


@pytest.mark.parametrize("sent", [b"", HANDSHAKE[:40], b"\n" * 100])
async def test_a_handshake_has_five_seconds(sent: bytes, autojump_clock: MockClock) -> None:
    """A connection that never becomes a websocket is closed."""
    async with memory_fleet(nodes=1, sidecars=1) as fleet:
        transport = await fleet.network.connect(Endpoint("sidecar-1", 7380))
        if sent:
            transport.send_nowait(sent)
        began = trio.current_time()
        while await transport.receive_some(100):
            pass
        assert trio.current_time() - began <= HANDSHAKE_SECONDS + 1.1


@pytest.mark.parametrize(
    "sent", [b"*1\r\n$4\r\nPING\r\n\r\n", HANDSHAKE.replace(b"Host: h", b"Host: \xff"), b"\x16\x03"]
)
async def test_what_is_no_websocket_harms_nobody(sent: bytes, autojump_clock: MockClock) -> None:
    """It is refused, or waits for its end, and the others are served."""
    async with memory_fleet(nodes=1, sidecars=1) as fleet:
        client = await subscriber(fleet)
        transport = await fleet.network.connect(Endpoint("sidecar-1", 7380))
        transport.send_nowait(sent)
        await trio.sleep(2 * HANDSHAKE_SECONDS)
        assert await client.ask(op="ping", id=1) == ok(1)


async def test_a_client_that_vanishes_leaves_no_wish_behind(autojump_clock: MockClock) -> None:
    """Neither in the middle of its requests nor when it is cut off for them."""
    network = MemoryNetwork(buffer_bytes_max=1_000_000)
    async with memory_fleet(nodes=1, sidecars=0, network=network) as fleet:
        await fleet.sidecar("sidecar-1", limits=Limits(outbox_bytes_max=1024))
        one = await open_websocket(fleet.network, "sidecar-1")
        one.ask_soon(op="subscribe", channels=["gone"])
        one.transport.close()
        # The errors overflow the outbox; the subscribe behind them is in the same read.
        two = await open_websocket(fleet.network, "sidecar-1")
        requests = frame(TEXT, b"?") * 50 + frame(TEXT, b'{"op":"subscribe","channels":["gone"]}')
        two.send(requests)
        assert await two.end() == 4008
        await trio.sleep(5)
        await wait_all_tasks_blocked()

        assert not any(b"gone" in each.channels for each in fleet.redis["node-1"]._connections)
