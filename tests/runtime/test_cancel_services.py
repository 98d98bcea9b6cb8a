"""An agent that drains and a sidecar that comes or goes may be ended at any of their steps."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from trio.lowlevel import Task
from trio.testing import MockClock

from fanout.testing.network import MemoryNetwork
from tests.support.runtime.alive import alive
from tests.support.runtime.clients import CHANNELS, two_clients
from tests.support.runtime.fleet import LEASE, MemoryFleet, Service, memory_fleet, until
from tests.support.runtime.steps import Act, Find, at_every_step, at_step
from tests.support.runtime.ws_client import open_websocket

BUFFER_BYTES = 256
"""So little fits on its way that records and long commands leave in pieces."""


def inside(service: Service) -> Find:
    """Find what a service runs in."""

    def find(_task: Task) -> trio.Nursery | None:
        nurseries = service.task.child_nurseries if service.task is not None else ()
        return nurseries[0] if nurseries else None

    return find


def cancelled(service: Service) -> Act:
    """End a service as if its process had died."""
    return lambda _nursery: service.scope.cancel()


def stopped(service: Service) -> Act:
    """End a service as a second SIGTERM does."""
    return lambda _nursery: service.stop.now.set()


@asynccontextmanager
async def traffic(fleet: MemoryFleet) -> AsyncIterator[None]:
    """Have one client publish without end; another one must receive each message once, in order."""
    publisher, subscriber = await two_clients(fleet)
    sent: dict[bytes, list[bytes]] = {channel: [] for channel in CHANNELS}

    async def publish() -> None:
        number = 0
        while True:
            number += 1
            channel = CHANNELS[number % len(CHANNELS)]
            await publisher.publish(channel, b"%d" % number)
            sent[channel].append(b"%d" % number)
            await trio.sleep(0.1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish)
        yield
        nursery.cancel_scope.cancel()
    await trio.sleep(LEASE)
    for channel, payloads in sent.items():
        assert [each for where, each in subscriber.received if where == channel][
            : len(payloads)
        ] == payloads


@pytest.mark.parametrize("end", [cancelled, stopped])
async def test_a_drain_may_end_at_any_step(
    end: Callable[[Service], Act], autojump_clock: MockClock
) -> None:
    """The next agent finds the node as it is, and drains it; no message is lost or doubled."""
    network = MemoryNetwork(buffer_bytes_max=BUFFER_BYTES)
    async with memory_fleet(nodes=2, network=network) as fleet, traffic(fleet):
        before = alive()
        agent = await fleet.node("node-3")

        async def attempt(number: int) -> bool:
            nonlocal agent
            with at_step(number, inside(agent), end(agent)) as step:
                code = await agent.leave()
            assert code == 0 if not step.acted else code in (None, 0, 1)
            agent = await fleet.agent("node-3")
            return step.acted

        assert await at_every_step(attempt) > 50
        assert await agent.leave() == 0
        await trio.sleep(LEASE)
        assert alive() == before


@asynccontextmanager
async def some_sidecars(network: MemoryNetwork) -> AsyncIterator[MemoryFleet]:
    """Run a fleet under traffic; whatever else was started meanwhile must have left nothing."""
    async with memory_fleet(nodes=2, network=network) as fleet, traffic(fleet):
        await trio.sleep(LEASE)
        connections = [server.connections for server in fleet.redis.values()]
        before = alive()
        yield fleet
        await trio.sleep(2 * LEASE)
        assert [server.connections for server in fleet.redis.values()] == connections
        assert alive() == before


@pytest.mark.parametrize("end", [cancelled, stopped])
async def test_a_sidecar_may_end_at_any_step_of_its_start(
    end: Callable[[Service], Act], autojump_clock: MockClock
) -> None:
    """The next one of its name finds its addresses free; the others miss nothing."""
    async with some_sidecars(MemoryNetwork(buffer_bytes_max=BUFFER_BYTES)) as fleet:

        async def attempt(number: int) -> bool:
            sidecar = await fleet.sidecar("sidecar-3", wait=False)
            with at_step(number, inside(sidecar), end(sidecar)) as step:
                await until(lambda: sidecar.ready.is_set() or sidecar.ended.is_set())
            assert step.acted or await sidecar.leave() == 0
            await sidecar.ended.wait()
            return step.acted

        assert await at_every_step(attempt) > 50


@pytest.mark.parametrize("end", [cancelled, stopped])
async def test_a_sidecar_may_end_at_any_step_while_it_leaves(
    end: Callable[[Service], Act], autojump_clock: MockClock
) -> None:
    """Its clients get whole messages and a notice that it leaves; the others miss nothing."""
    async with some_sidecars(MemoryNetwork(buffer_bytes_max=BUFFER_BYTES)) as fleet:

        async def attempt(number: int) -> bool:
            sidecar = await fleet.sidecar("sidecar-3")
            client = await open_websocket(fleet.network, "sidecar-3")
            client.ask_soon(op="subscribe", channels=[CHANNELS[0].decode()])
            with at_step(number, inside(sidecar), end(sidecar)) as step:
                sidecar.stop.requested.set()
                assert await client.end() == 1012
                assert client._data == b""
                await sidecar.ended.wait()
            client.transport.close()
            return step.acted

        assert await at_every_step(attempt) > 50
