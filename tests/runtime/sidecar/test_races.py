"""Clients that subscribe, unsubscribe and vanish as fast as they can: no ghost is left, none is lost."""

import random

import pytest
import trio
from trio.testing import MockClock

from fanout.testing.network import MemoryNetwork
from tests.support.runtime.fleet import Client, MemoryFleet, memory_fleet

CHANNELS = tuple(b"c%d" % number for number in range(5))
SIDECARS = ("sidecar-1", "sidecar-2")
CLIENTS = 6
STEPS, ROUNDS = 60, 20
QUIET_SECONDS = 5.0
"""Longer than any message is in flight, and than a node keeps an unwanted subscription."""


class Racer:
    """A client, and what it must be subscribed to once everything it said has been done."""

    def __init__(self, client: Client, place: str) -> None:
        self.client = client
        self.place = place
        self.held: set[bytes] = set()

    def act(self, rng: random.Random) -> None:
        """Say something without waiting for what came of the last thing."""
        names = tuple(rng.sample(CHANNELS, rng.randint(1, 3)))
        if rng.random() < 0.5:
            self.client.link.submit_subscription(b"SUBSCRIBE", names)
            self.held.update(names)
        else:
            self.client.link.submit_subscription(b"UNSUBSCRIBE", names)
            self.held.difference_update(names)
        self.client.link.flush()


async def race(fleet: MemoryFleet, racers: list[Racer], rng: random.Random) -> None:
    """Have them act, some of them for the last time; nodes break now and then."""
    for _ in range(STEPS):
        racer = rng.choice(racers)
        racer.act(rng)
        if rng.random() < 0.1:
            racer.client.link.close("enough")
            racers.remove(racer)
            racers.append(Racer(await fleet.client(racer.place), racer.place))
        if rng.random() < 0.03:
            fleet.network.reset(rng.choice(list(fleet.redis.values())).endpoint)
        await trio.sleep(rng.choice((0.0, 0.0, 0.001, 0.03)))


@pytest.mark.parametrize("seed", range(3))
async def test_races_leave_no_ghost_and_lose_nobody(seed: int, autojump_clock: MockClock) -> None:
    """After each round every message reaches exactly the current subscribers of its channel."""
    rng = random.Random(seed)
    network = MemoryNetwork(delay_seconds=lambda: rng.choice((0.0, 0.001, 0.02)))
    async with memory_fleet(nodes=2, network=network, seed=seed) as fleet:
        publisher = await fleet.client("sidecar-1")
        own = [each.subscriptions for each in fleet.redis.values()]
        places = [SIDECARS[number % 2] for number in range(CLIENTS)]
        racers = [Racer(await fleet.client(place), place) for place in places]
        for round_ in range(ROUNDS):
            await race(fleet, racers, rng)
            await trio.sleep(QUIET_SECONDS)
            for channel in CHANNELS:
                here = sum(each.place == "sidecar-1" and channel in each.held for each in racers)
                there = any(each.place == "sidecar-2" and channel in each.held for each in racers)
                assert await publisher.publish(channel, b"%d" % round_) == here + there
            await trio.sleep(1)
            for each in racers:
                assert {channel for channel, _ in each.client.received} == each.held
                assert len(each.client.received) == len(each.held)
                each.client.received.clear()
        for each in racers:
            each.client.link.close("enough")
        await trio.sleep(QUIET_SECONDS)
        assert [sorted(map(len, each.subscriptions)) for each in fleet.redis.values()] == [
            sorted(map(len, each)) for each in own
        ]
