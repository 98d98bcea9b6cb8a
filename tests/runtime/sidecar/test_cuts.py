"""Links that break within a message, at each of its bytes: nothing is misread, a gap follows."""

import pytest
import trio
from trio.testing import MockClock

from fanout.core.placement import place
from fanout.errors import CommandFailed
from fanout.runtime.discovery.fleet import read_fleet
from fanout.runtime.doors.ws_listener import GAP_SECONDS
from fanout.testing.network import MemoryNetwork
from fanout.values.names import NodeId
from fanout.wire.redis.client import pack
from fanout.wire.resp.replies import messages3
from tests.support.runtime.clients import carried, outside
from tests.support.runtime.fleet import TIMINGS, memory_fleet, until
from tests.support.runtime.subscriber import gap, subscriber

CHANNEL = next(
    name
    for name in (b"c%d" % number for number in range(100))
    if place(name, {NodeId("node-1"), NodeId("node-2")}).publish == "node-1"
)
PAYLOAD = b"x\r\n+OK\r\n$3\r\n:1\r\n>3\r\n"
"""Looks like replies to a parser that begins in the middle."""

COUNTS = range(0, 600, 7)
"""More than the records of both members."""


@pytest.mark.parametrize("bytes_max", [16, 65_536])
async def test_a_delivery_is_cut_at_any_byte(bytes_max: int, autojump_clock: MockClock) -> None:
    """It arrives whole or not at all; then a gap follows, and the next ones arrive as usual."""
    delivery = messages3(CHANNEL, [PAYLOAD])
    async with memory_fleet(nodes=2, network=MemoryNetwork(receive_bytes_max=bytes_max)) as fleet:
        publisher, listener = await fleet.client("sidecar-1"), await fleet.client("sidecar-2")
        await listener.subscribed(CHANNEL)
        told = await subscriber(fleet, "sidecar-2")
        for count in range(len(delivery) + 1):
            fleet.network.limit("sidecar-2", "node-1", count, back=True)
            assert await publisher.publish(CHANNEL, PAYLOAD) == 1
            assert await told.next() == gap("node-1", "lost")
            assert await told.next() == gap("node-1", "heard")
            assert await publisher.publish(CHANNEL, b"after") == 1
            await until(lambda: (CHANNEL, b"after") in listener.received)
            assert listener.received[:-1] == [(CHANNEL, PAYLOAD)] * (count == len(delivery))
            listener.received.clear()
            await trio.sleep(GAP_SECONDS + 0.1)  # the next loss is told apart from this return


@pytest.mark.parametrize("back", [False, True])
async def test_a_publish_is_cut_at_any_byte(*, back: bool, autojump_clock: MockClock) -> None:
    """The command or its answer: it is never executed twice, and never said to be when it was not."""
    cut_off = b":1\r\n" if back else pack(b"PUBLISH", CHANNEL, PAYLOAD)
    async with memory_fleet(nodes=2) as fleet:
        publisher, listener = await fleet.client("sidecar-1"), await fleet.client("sidecar-2")
        await listener.subscribed(CHANNEL)
        unknown = 0
        for count in range(len(cut_off) + 1):
            before = sum(map(carried, fleet.redis.values()))
            fleet.network.limit("sidecar-1", "node-1", count, back=back)
            try:
                assert await publisher.publish(CHANNEL, PAYLOAD) == 1
                known = True
            except CommandFailed as failed:
                known = not str(failed).startswith("OUTCOMEUNKNOWN ")
            await trio.sleep(TIMINGS.reconnect_max_seconds + 1)
            executed = sum(map(carried, fleet.redis.values())) - before
            assert executed == 1 if known else executed <= 1
            assert listener.received == [(CHANNEL, PAYLOAD)] * executed
            listener.received.clear()
            unknown += not known
        assert unknown == (len(cut_off) if back else len(cut_off) + 1)  # whole, but not answered
        assert [server.garbled for server in fleet.redis.values()] == [0, 0]


@pytest.mark.parametrize("back", [False, True])
async def test_what_discovery_is_told_and_tells_is_cut_at_any_byte(
    *, back: bool, autojump_clock: MockClock
) -> None:
    """No member is taken for gone, and no partial record is read."""
    async with memory_fleet(nodes=2) as fleet:
        publisher, listener = await fleet.client("sidecar-1"), await fleet.client("sidecar-2")
        await listener.subscribed(CHANNEL)
        config, world = outside(fleet)
        for count in COUNTS:
            for member in ("sidecar-1", "node-1"):
                fleet.network.limit(member, "discovery-1", count, back=back)
            await trio.sleep(TIMINGS.reconnect_max_seconds + 1)
            assert (await read_fleet(config, world=world)).problems == ()
            assert await publisher.publish(CHANNEL, b"%d" % count) == 1
        assert fleet.discovery[0].garbled == 0
        assert [payload for _, payload in listener.received] == [b"%d" % count for count in COUNTS]
