"""Events that hit all sidecars of a large fleet at the same moment: they do not come as a herd."""

import attrs
import pytest
import trio
from trio.testing import MockClock

from fanout.config import DiscoveryAddress, RedisAddress, SidecarConfig, Timings
from fanout.runtime.discovery.registry import Registry
from fanout.runtime.redis.link import connect
from fanout.runtime.sidecar.fleet import Fleet
from fanout.runtime.sidecar.machines import Machines
from fanout.testing.network import MemoryNetwork
from fanout.values.names import Kind, SidecarId
from fanout.values.records import SidecarRecord, Snapshot
from fanout.wire.records import SIDECAR, encode_record, hint_channel
from tests.support.runtime.fleet import MemoryFleet, at_once, memory_fleet, run_link, until

SIDECARS = 500
CONNECTS_MAX = 200
"""To one node in any 100 ms. Two connections of each sidecar, spread over a second, are 100; half
as many come in a second attempt while others make their first; the rest is chance."""
TIMINGS = Timings(probe_interval_seconds=60)  # what 500 probes cost is not what is tested
CHANNEL = b"c"


def record(name: str) -> SidecarRecord:
    """Return what a sidecar tells discovery."""
    return SidecarRecord(
        cluster="default", sidecar=SidecarId(name), incarnation=1, version=1,
        lease_seconds=TIMINGS.lease_seconds,
    )  # fmt: skip


def reads(registries: list[Registry]) -> int:
    """Return how often they have read, all together."""
    return sum(each.statistics()[0].reads for each in registries)


class Crowd:
    """Sidecars without doors and without a reader of their own: one reads discovery for all.

    Membership, links, subscriptions and publishers are the real ones. 500 sidecars that each read
    the records of 500 would take minutes.
    """

    def __init__(self, fleet: MemoryFleet, nursery: trio.Nursery, count: int) -> None:
        discovery = (DiscoveryAddress(RedisAddress(fleet.discovery[0].endpoint)),)
        self.all: list[Machines] = []
        for number in range(count):
            config = SidecarConfig(id=f"crowd-{number}", discovery=discovery, timings=TIMINGS)
            network = fleet.network.host(config.id)
            machines = Machines.build(config, network, fleet.rng, nursery)
            machines.fanout.subscribe(Kind.CHANNEL, (CHANNEL,), lambda: None)
            machines.start(nursery)
            self.all.append(machines)
        self._records = tuple(record(f"crowd-{number}") for number in range(count))
        self._told: object = None
        registry = Registry(
            fleet.network.host("crowd"), discovery, "default", timings=TIMINGS, rng=fleet.rng,
            readers=(self,),
        )  # fmt: skip
        nursery.start_soon(registry.run)

    def on_snapshot(self, instance: int, snapshot: Snapshot) -> None:
        """Tell all at the same moment what is new of the nodes; in between discovery is silent."""
        news = tuple((each.node, each.incarnation, each.state) for each in snapshot.nodes)
        if news == self._told:
            return
        self._told = news
        for each in self.all:
            each.fleet.on_snapshot(instance, attrs.evolve(snapshot, sidecars=self._records))
            each.fleet.on_unreachable(instance)

    def on_unreachable(self, instance: int) -> None:
        """Say nothing."""

    async def settled(self, nodes: int) -> None:
        """Wait until all cover, and can publish on, so many active nodes."""
        await until(
            lambda: all(len(m.nodes.active) == nodes and not m.fleet.unready() for m in self.all)
        )


@pytest.mark.timeout(300)
async def test_no_event_makes_all_sidecars_connect_at_once(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I16: a node joins, loses all connections, is killed and comes back; then all is well."""
    # After a crash each sidecar tells each other one that it is deaf: in one process a minute.
    monkeypatch.setattr(Fleet, "_publish_unheard", lambda _fleet: None)
    async with memory_fleet(nodes=1) as fleet, trio.open_nursery() as nursery:
        connects = fleet.connects["node-2"]
        crowd = Crowd(fleet, nursery, SIDECARS - 2)
        await crowd.settled(1)
        assert at_once(fleet.connects["node-1"]) <= CONNECTS_MAX

        await fleet.node("node-2")
        redis = fleet.redis["node-2"]
        await crowd.settled(2)
        joined = len(connects)
        fleet.network.reset(redis.endpoint)
        await trio.sleep(0.1)
        await crowd.settled(2)
        reset = len(connects)
        fleet.kill(redis)
        await trio.sleep(1)
        await fleet.restart(redis)
        await trio.sleep(1)
        await crowd.settled(2)
        await until(lambda: redis.connections == fleet.redis["node-1"].connections)

        assert joined >= 2 * SIDECARS
        assert reset >= joined + 2 * SIDECARS
        assert len(connects) >= reset + 2 * SIDECARS
        assert at_once(connects) <= CONNECTS_MAX
        client = await fleet.client("sidecar-1")
        for number in range(10):
            assert await client.publish(CHANNEL, b"%d" % number) == SIDECARS - 2
        assert redis.connections == 2 * SIDECARS + 1
        nursery.cancel_scope.cancel()


async def test_a_large_fleet_does_not_all_turn_to_discovery_at_once(
    autojump_clock: MockClock,
) -> None:
    """Neither to connect after a break nor to read at each of many words: 100 readers of 500."""
    readers = 100
    records = {str(each.sidecar): encode_record(each) for each in map(record, map(str, range(500)))}
    keys: dict[bytes, tuple[bytes | set[bytes], float]] = {
        SIDECAR.key("default", name).encode(): (raw, float("inf")) for name, raw in records.items()
    }
    names = {name.encode() for name in records}
    keys[SIDECAR.index_key("default").encode()] = (names, float("inf"))
    async with trio.open_nursery() as nursery:
        fleet = MemoryFleet(nursery, network=MemoryNetwork(buffer_bytes_max=1_000_000))
        discovery = await fleet.add_discovery()
        discovery.restore(keys)
        address = DiscoveryAddress(RedisAddress(discovery.endpoint))
        registries = [
            Registry(
                fleet.network, (address,), "default", timings=TIMINGS, rng=fleet.rng,
                readers=(),
            )
            for _ in range(readers)
        ]  # fmt: skip
        for each in registries:
            nursery.start_soon(each.run)
        await trio.sleep(5)
        connects = fleet.connects[discovery.endpoint.host]
        connects.clear()
        fleet.network.reset(discovery.endpoint)
        await trio.sleep(5)

        assert len(connects) >= 2 * readers
        assert at_once(connects) <= 2 * readers * 0.2

        speaker = await connect(fleet.network, discovery.endpoint, timeout_seconds=1)
        nursery.start_soon(run_link, speaker)
        before = reads(registries)
        for _ in range(250):
            await speaker.call("PUBLISH", hint_channel("default"), b"")
            await trio.sleep(0.02)

        assert reads(registries) - before <= 6 * readers
        nursery.cancel_scope.cancel()
