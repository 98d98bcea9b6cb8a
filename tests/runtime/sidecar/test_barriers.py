"""Order barriers in a fleet in memory: planned changes hold no publish for longer than a round trip."""

import trio
from trio.testing import MockClock

from tests.support.runtime.clients import CHANNELS, two_clients
from tests.support.runtime.fleet import Client, MemoryFleet, memory_fleet, until

TIMEOUTS = ("fanout_fence_timeouts_total",)


async def timeouts(fleet: MemoryFleet) -> float:
    """Return how many order barriers timed out, at both sidecars."""
    return sum(
        [(await fleet.admin[name].samples())[TIMEOUTS] for name in ("sidecar-1", "sidecar-2")]
    )


async def publish_throughout(client: Client, slowest: list[float]) -> None:
    """Publish on all channels in turn until cancelled, and note how long each publish took."""
    number = 0
    while True:
        began = trio.current_time()
        await client.publish(CHANNELS[number % len(CHANNELS)], b"%d" % number)
        slowest.append(trio.current_time() - began)
        number += 1
        await trio.sleep(0.005)


async def test_pattern_subscriptions_stall_no_planned_change(autojump_clock: MockClock) -> None:
    """The reply to the barrier's PUBLISH counts them, but no answer comes for them."""
    async with memory_fleet(nodes=2) as fleet, trio.open_nursery() as nursery:
        publisher, subscriber = await two_clients(fleet)
        subscriber.link.submit_subscription(b"PSUBSCRIBE", (b"*",))
        subscriber.link.flush()
        await trio.sleep(1)
        took: list[float] = []
        nursery.start_soon(publish_throughout, publisher, took)
        await trio.sleep(0.5)
        service = await fleet.node("node-3")
        await trio.sleep(2)
        await service.leave()
        await trio.sleep(2)
        nursery.cancel_scope.cancel()

        assert max(took) < 0.5
        assert await timeouts(fleet) == 0


async def test_a_deaf_sidecar_is_not_waited_for(autojump_clock: MockClock) -> None:
    """It is counted by a connection that delivers nothing, and reports that it hears nothing."""
    async with memory_fleet(nodes=2) as fleet, trio.open_nursery() as nursery:
        publisher, _ = await two_clients(fleet)
        took: list[float] = []
        nursery.start_soon(publish_throughout, publisher, took)
        await trio.sleep(0.5)
        fleet.network.cut("sidecar-2", "node-1")
        used = fleet.redis["node-1"].published
        await until(lambda: bool(used))
        await trio.sleep(15)
        before = len(used)
        await trio.sleep(3)
        nursery.cancel_scope.cancel()

        assert len(used) == before, "publishers have left the node"
        assert max(took) < 0.5
        assert await timeouts(fleet) == 0
