"""A link may be cancelled at any of its steps: half a command is never followed by another one."""

import random
from typing import Any

import pytest
import trio
from trio.lowlevel import Task
from trio.testing import MockClock

from fanout.config import RedisAddress
from fanout.errors import CommandFailed
from fanout.runtime.discovery.fleet import read_fleet
from fanout.runtime.redis.link import Link, use_link
from fanout.testing.network import MemoryNetwork
from fanout.testing.redis import FakeRedis
from fanout.values.names import Endpoint
from tests.support.runtime.clients import outside
from tests.support.runtime.fleet import TIMINGS, Client, MemoryFleet, memory_fleet, until
from tests.support.runtime.steps import at_every_step, at_step, cancel

BUFFER_BYTES = 16
"""So little fits on its way that every command leaves in pieces."""

HERE = RedisAddress(Endpoint("here", 6379))
MESSAGES = [b"%d" % number * 40 for number in range(3)]


def link(task: Task) -> trio.Nursery | None:
    """Find what the next link that is made runs in."""
    return task.parent_nursery if task.name.endswith("use_link.<locals>.run_body") else None


async def publish(one: Link) -> None:
    """Publish some messages."""
    for message in MESSAGES:
        await one.call("PUBLISH", "c", message)


async def test_a_link_cancelled_at_any_step_ends_with_its_connection(
    autojump_clock: MockClock,
) -> None:
    """What Redis has executed is what was whole; nothing comes behind the half that was not."""
    network = MemoryNetwork(buffer_bytes_max=BUFFER_BYTES)
    server = FakeRedis(network, HERE.endpoint, random.Random(1))

    async def attempt(number: int) -> bool:
        server.log.clear()
        with at_step(number, link, cancel) as step:
            await use_link(network, HERE, publish, timeout_seconds=5)
        await trio.testing.wait_all_tasks_blocked()
        executed = [payload for _, payload in server.log]
        assert executed == MESSAGES[: len(executed)]
        assert server.connections == server.garbled == 0
        return step.acted

    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        assert await at_every_step(attempt) > 20
        assert [payload for _, payload in server.log] == MESSAGES
        nursery.cancel_scope.cancel()


async def test_the_next_call_of_a_link_gets_its_own_answer(autojump_clock: MockClock) -> None:
    """A cancelled call has its command sent whole and its answer discarded."""
    network = MemoryNetwork(buffer_bytes_max=BUFFER_BYTES, delay_seconds=lambda: 0.1)
    server = FakeRedis(network, HERE.endpoint, random.Random(1))

    async def body(one: Link) -> None:
        for given_up_after in (0.0, 0.05, 0.1, 0.15, 0.25):
            with trio.move_on_after(given_up_after) as scope:
                await one.call("SET", "k", b"x" * 100)
            assert scope.cancelled_caught
            assert await one.call("PING", b"%g" % given_up_after) == b"%g" % given_up_after
        assert await one.call("GET", "k") == b"x" * 100

    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        await use_link(network, HERE, body, timeout_seconds=5)
        nursery.cancel_scope.cancel()
    assert server.garbled == 0


async def carry(fleet: MemoryFleet, publisher: Client, tag: int) -> None:
    """Subscribe anew and publish on both nodes; everything arrives once."""
    subscriber = await fleet.client("sidecar-2")
    channels = [b"c%d" % number for number in range(4)]
    await subscriber.subscribed(*channels)
    done = []
    with trio.fail_after(60):
        for channel in channels:
            for attempt in range(100):
                payload = b"%b %d %d" % (channel, tag, attempt)
                try:
                    await publisher.publish(channel, payload)
                except CommandFailed:  # the node was lost with it
                    await trio.sleep(0.1)
                else:
                    done.append((channel, payload))
                    break
    await until(lambda: set(done) <= set(subscriber.received))
    assert len(set(subscriber.received)) == len(subscriber.received)
    subscriber.link.close("enough")


@pytest.mark.parametrize("host", ["node-1", "discovery-1"])
async def test_every_link_of_a_fleet_may_be_cancelled_at_any_step(
    host: str, autojump_clock: MockClock
) -> None:
    """It is made anew, and the fleet is whole again."""
    network = MemoryNetwork(buffer_bytes_max=BUFFER_BYTES * 16)
    async with memory_fleet(nodes=2, network=network) as fleet:
        publisher = await fleet.client("sidecar-1")
        config, world = outside(fleet)

        def wires() -> list[Any]:
            return [each for each in network._wires if each.endpoint.host == host and not each.over]

        links = len(wires())
        assert links > 3

        async def attempt(number: int) -> bool:
            acted = False
            for _ in range(links):  # the one that is made anew becomes the last
                with at_step(number, link, cancel) as step:
                    wires()[0].reset()
                    await trio.sleep(0.1)
                    await carry(fleet, publisher, number)
                acted = acted or step.acted
                await trio.sleep(
                    TIMINGS.reconnect_max_seconds + 1
                )  # then its next one is not put off
                assert (await read_fleet(config, world=world)).whole
                await until(lambda: len(wires()) == links)
            return acted

        assert await at_every_step(attempt) > 10
        servers = (*fleet.redis.values(), *fleet.discovery)
        assert [server.garbled for server in servers] == [0, 0, 0]
