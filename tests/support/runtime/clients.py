"""Clients of a fleet in memory, and its view from outside."""

from fanout.config import DiscoveryAddress, FleetConfig, RedisAddress
from fanout.runtime.net.world import World
from fanout.testing.redis import FakeRedis
from tests.support.runtime.fleet import Client, MemoryFleet

CHANNELS = tuple(b"channel-%d" % number for number in range(40))


async def two_clients(fleet: MemoryFleet) -> tuple[Client, Client]:
    """Return a publisher at one sidecar, a subscriber of all channels at another."""
    subscriber = await fleet.client("sidecar-2")
    await subscriber.subscribed(*CHANNELS)
    return await fleet.client("sidecar-1"), subscriber


def carried(server: FakeRedis) -> int:
    """Return how many messages a node has carried."""
    return len(server.published)


def outside(fleet: MemoryFleet) -> tuple[FleetConfig, World]:
    """Return what a look from outside needs."""
    addresses = tuple(DiscoveryAddress(RedisAddress(each.endpoint)) for each in fleet.discovery)
    return FleetConfig(discovery=addresses), World(network=fleet.network)
