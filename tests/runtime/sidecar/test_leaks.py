"""Clients and nodes that come and go in every way leave nothing behind, and miss nothing."""

import contextlib

import pytest
import trio
from trio.testing import MockClock

from fanout.core.view import TOMBSTONE_SECONDS
from fanout.testing.network import MemoryNetwork
from fanout.values.names import Endpoint
from tests.support.runtime.alive import alive
from tests.support.runtime.clients import CHANNELS, two_clients
from tests.support.runtime.fleet import LEASE, memory_fleet
from tests.support.wire.rfc6455 import HANDSHAKE, TEXT, close, frame

CLIENTS = 10_000


def greetings(number: int) -> list[tuple[int, bytes]]:
    """Return what clients say before they vanish, with the port they say it to."""
    name = b"channel-%d" % number
    subscribe = b"*2\r\n$9\r\nSUBSCRIBE\r\n$%d\r\n%b\r\n" % (len(name), name)
    psubscribe = b"*2\r\n$10\r\nPSUBSCRIBE\r\n$3\r\n%03d\r\n" % (number % 100)
    publish = b"*3\r\n$7\r\nPUBLISH\r\n$1\r\nc\r\n$1\r\nx\r\n" * 9
    request = frame(TEXT, b'{"op":"subscribe","channels":["%b"],"id":1}' % name)
    return [
        (6380, b""),
        (6380, subscribe + psubscribe),
        (6380, subscribe + publish + b"*1\r\n$4\r\nQUIT\r\n"),
        (6380, subscribe + b"*1\r\n$5\r\nMULTI\r\n" + publish[:-4]),
        (6380, b"GET / HTTP/1.1\r\n\r\n"),
        (7380, b""),
        (7380, HANDSHAKE[:-3]),
        (7380, HANDSHAKE + request),
        (7380, HANDSHAKE + request + close(1000)),
        (7380, HANDSHAKE + request[:-3]),
        (7380, HANDSHAKE + b"\xff\xff"),
    ]


async def visit(network: MemoryNetwork, number: int) -> None:
    """Come, say something, perhaps read, and vanish."""
    said = greetings(number)
    port, data = said[number % len(said)]
    client = await network.connect(Endpoint("sidecar-1", port))
    with contextlib.suppress(trio.BrokenResourceError):
        client.send_nowait(data)
        await trio.sleep(0.05 * (number % 3))
        if number % 2:
            with trio.move_on_after(1):
                await client.receive_some(65_536)
    client.close()


async def test_clients_leave_nothing_behind(autojump_clock: MockClock) -> None:
    """No object, no subscription on the node, no wish."""
    async with memory_fleet(nodes=1, sidecars=1) as fleet:
        redis = fleet.redis["node-1"]
        await trio.sleep(LEASE)
        before, subscribed = alive(), redis.subscriptions
        async with trio.open_nursery() as crowd:
            for number in range(CLIENTS):
                crowd.start_soon(visit, fleet.network, number)
                await trio.sleep(0.01)
        await trio.sleep(LEASE)

        assert redis.subscriptions == subscribed
        assert alive() == before


NODES, AT_ONCE = 1_000, 5


@pytest.mark.timeout(600)  # hours of the fleet's time: on a busy machine minutes of ours
async def test_nodes_leave_nothing_behind(autojump_clock: MockClock) -> None:
    """A thousand of them, some of which crash: neither in sidecars and agents nor in discovery."""
    async with memory_fleet(nodes=1, sidecars=2) as fleet:
        publisher, subscriber = await two_clients(fleet)
        await trio.sleep(LEASE)
        discovery = fleet.discovery[0]
        keys, before = discovery.dump().keys(), alive()
        tasks = trio.lowlevel.current_statistics().tasks_living
        used = 0

        async def come_and_go(number: int) -> None:
            nonlocal used
            agent = await fleet.node(f"node-{number}")
            await trio.sleep(1)  # it is used
            await publisher.publish(CHANNELS[number % len(CHANNELS)], b"%d" % number)
            if number % 10:
                assert await agent.leave() == 0
            else:
                agent.scope.cancel()
            server = fleet.redis.pop(f"node-{number}")
            fleet.kill(server)
            used += bool(server.published)

        for start in range(0, NODES, AT_ONCE):
            async with trio.open_nursery() as crowd:
                for number in range(start, start + AT_ONCE):
                    crowd.start_soon(come_and_go, number + 2)
        assert used > NODES // 10
        assert len(subscriber.received) == NODES
        await trio.sleep(2 * TOMBSTONE_SECONDS + LEASE)

        assert discovery.dump().keys() == keys
        assert alive() == before
        assert trio.lowlevel.current_statistics().tasks_living == tasks
