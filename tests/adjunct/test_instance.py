"""What an instance writes to discovery, and its states, which follow those of its sidecar."""

import itertools
import json
from typing import Any, cast

import attrs
import pytest
import structlog
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from fanout.adjunct.gateway import INSTANCES, Gateway, InstanceRecord
from fanout.config import FleetConfig, SidecarConfig
from fanout.config import Gateway as Settings
from fanout.errors import RemoteProtocolError
from fanout.runtime.discovery.registry import Registry
from fanout.runtime.discovery.watch import Watch, open_watch
from fanout.runtime.net.world import World
from fanout.runtime.sidecar.adjuncts import Sidecar
from fanout.values.names import Endpoint
from fanout.values.records import NodeState
from fanout.wire.records import encode_record
from tests.support.adjunct.gateway import instance
from tests.support.runtime.fleet import LEASE, TIMINGS, MemoryFleet, Service, memory_fleet, until

SERVICE = Endpoint("service", 8080)


async def start(fleet: MemoryFleet, name: str, **settings: Any) -> Service:
    """Start a sidecar whose service is an instance of `web`."""
    values = {"gateway_pool": "web", "gateway_address": "https://192.0.2.1:8080", **settings}
    gateway = Settings(**values)
    return await fleet.sidecar(name, adjuncts=(Gateway(),), gateway=gateway, wait=False)


def states(watch: Watch) -> dict[str, str]:
    """Return the state of every instance."""
    return {each.instance: each.state.value for each in watch.members(INSTANCES).values()}


async def test_an_instance_lives_as_its_sidecar_does(autojump_clock: MockClock) -> None:
    """Joining while there is no node, active when ready, draining when told to stop, then gone."""
    async with memory_fleet(nodes=0, sidecars=0) as fleet:
        config = FleetConfig(discovery=fleet.addresses())
        async with open_watch(config, (INSTANCES,), world=fleet.world) as (_, watch):
            # No node, no readiness: a sidecar that starts before its fleet hands out no instance.
            sidecar = await start(fleet, "web-1", gateway_weight=3, gateway_drain_seconds=40)
            await until(lambda: states(watch) == {"web-1": "joining"})
            await trio.sleep(2 * LEASE)
            assert states(watch) == {"web-1": "joining"}

            await fleet.node("node-1")
            await sidecar.ready.wait()
            # At once, not at the next heartbeat.
            assert await until(lambda: states(watch) == {"web-1": "active"}) < 0.1
            (record,) = watch.members(INSTANCES).values()
            assert (record.weight, record.ips) == (3, ("192.0.2.1",))
            await trio.sleep(2 * LEASE)
            assert states(watch) == {"web-1": "active"}

            sidecar.stop.requested.set()
            await until(lambda: states(watch) == {"web-1": "draining"})
            await trio.sleep(3 * LEASE)
            assert states(watch) == {"web-1": "draining"}
            await fleet.client("web-1")  # the doors are open all the while
            await sidecar.ended.wait()
            assert sidecar.code == 0
            await until(lambda: states(watch) == {})
            assert [each.state for each in watch.absent(INSTANCES)] == [NodeState.GONE]


async def test_an_instance_that_crashes_is_gone_by_its_lease(autojump_clock: MockClock) -> None:
    """And a second signal to stop ends it without draining."""
    async with memory_fleet(nodes=1, sidecars=0) as fleet:
        config = FleetConfig(discovery=fleet.addresses())
        async with open_watch(config, (INSTANCES,), world=fleet.world) as (_, watch):
            crashing = await start(fleet, "web-1")
            hurried = await start(fleet, "web-2", gateway_drain_seconds=1000)
            both = {"web-1": "active", "web-2": "active"}
            await until(lambda: states(watch) == both)
            crashing.scope.cancel()
            await until(lambda: states(watch) == {"web-2": "active"})

            hurried.stop.requested.set()
            await until(lambda: states(watch) == {"web-2": "draining"})
            hurried.stop.now.set()
            await hurried.ended.wait()
            assert hurried.code == 1


async def test_an_instance_whose_service_is_away_gets_nobody(autojump_clock: MockClock) -> None:
    """It joins again, as a new incarnation, whenever the service accepts connections again."""
    async with memory_fleet(nodes=1, sidecars=0) as fleet:
        fleet._wall = itertools.count(10**6, -1)  # a clock that is set back is no excuse
        config = FleetConfig(discovery=fleet.addresses())
        async with open_watch(config, (INSTANCES,), world=fleet.world) as (_, watch):
            sidecar = await start(fleet, "web-1", gateway_check=SERVICE)
            await sidecar.ready.wait()
            await trio.sleep(LEASE)
            assert states(watch) == {"web-1": "joining"}

            lives = []
            for is_refused in (True, False, True):
                fleet.network.thaw(SERVICE)
                service = await fleet.network.bind(SERVICE)
                service.listen()
                await until(lambda: states(watch) == {"web-1": "active"})
                lives += [each.incarnation for each in watch.members(INSTANCES).values()]
                if not is_refused:
                    fleet.network.freeze(SERVICE)
                    await until(lambda: states(watch) == {"web-1": "joining"})
                service.close()
                await until(lambda: states(watch) == {"web-1": "joining"})
            assert lives == sorted(set(lives))

            began = trio.current_time()
            assert await sidecar.leave() == 0
            assert trio.current_time() - began < 1  # no client to drain
            await until(lambda: states(watch) == {})


class SlowRegistry:
    """Takes longer for a write than the instance waits for its next heartbeat."""

    def __init__(self) -> None:
        self.written: list[tuple[InstanceRecord, bool]] = []

    async def write(self, record: InstanceRecord, *, news: bool) -> int:
        """Take a record."""
        self.written.append((record, news))
        await trio.sleep(3 * TIMINGS.heartbeat_interval_seconds)
        return 1


async def test_heartbeats_are_no_news_and_none_takes_back_the_goodbye(
    autojump_clock: MockClock,
) -> None:
    """Not even one that was due while discovery was slow to take the goodbye."""
    registry = SlowRegistry()
    settings: dict[str, object] = {
        "id": "s", "discovery": "redis://h", "gateway_pool": "web", "gateway_address": "h:1",
        "gateway_drain_seconds": 60,
    }  # fmt: skip
    sidecar = Sidecar(
        config=SidecarConfig.from_mapping(settings),
        world=World(),
        registry=cast("Registry", registry),
        watch=Watch("default", (INSTANCES,), instances=1),
    )
    gateway = Gateway()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(gateway.run, sidecar)
        await trio.sleep(30)
        sidecar.ready.set()
        await trio.sleep(30)
        await gateway.drain(sidecar)
        await gateway.say_goodbye(sidecar)
        await trio.sleep(30)
        nursery.cancel_scope.cancel()

    records = [record for record, _ in registry.written]
    states = [each.state for each in records]
    order = [NodeState.JOINING, NodeState.ACTIVE, NodeState.DRAINING, NodeState.GONE]
    assert sorted(states, key=order.index) == states
    assert all(states.count(state) > 1 for state in order)
    assert [record.state for record, news in registry.written if news] == order
    stamps = [each.stamp for each in records]
    assert sorted(set(stamps)) == stamps


async def test_a_sidecar_that_only_hands_out_registers_nothing(autojump_clock: MockClock) -> None:
    """And leaves without waiting."""
    async with memory_fleet(nodes=1, sidecars=0) as fleet:
        config = FleetConfig(discovery=fleet.addresses())
        async with open_watch(config, (INSTANCES,), world=fleet.world) as (_, watch):
            front = await fleet.sidecar("front", adjuncts=(Gateway(),))
            await (await start(fleet, "web-1")).ready.wait()
            await until(lambda: states(watch) == {"web-1": "active"})
            began = trio.current_time()
            assert await front.leave() == 0
            assert trio.current_time() - began < 1
            assert states(watch) == {"web-1": "active"}


async def test_nothing_secret_is_logged_or_told(autojump_clock: MockClock) -> None:
    """The secret is in no event; nor in the text of the configuration."""
    with structlog.testing.capture_logs() as logs:
        async with memory_fleet(nodes=1, sidecars=0) as fleet:
            sidecar = await start(fleet, "web-1", gateway_secret="canary")
            await sidecar.ready.wait()
            await sidecar.leave()
    changed = [each["state"] for each in logs if each["event"] == "instance_changed"]

    assert changed == ["joining", "active", "draining", "gone"]
    assert "canary" not in repr(logs) + repr(Settings(gateway_secret="canary"))


# Records.

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    | st.sampled_from(["192.0.2.1", "::1", "fe80::1%eth0", "https://a.example", "active"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5,
)  # fmt: skip


@given(field=st.sampled_from([*attrs.fields_dict(InstanceRecord), "other"]), value=JSON)
def test_whatever_discovery_holds_is_a_record_or_refused(field: str, value: object) -> None:
    """And what is taken can be written again; what a newer build added is kept."""
    data = {**json.loads(encode_record(instance("a", ips=("::1",)))), field: value}
    try:
        record = INSTANCES.decode(json.dumps(data).encode())
    except RemoteProtocolError:
        return

    assert INSTANCES.decode(encode_record(record)) == record
    assert record.id == f"{record.pool}/{record.instance}"
    assert 1 <= record.weight <= 1000


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("address", "javascript:alert(1)"),
        ("address", "https://user@evil.example"),
        ("address", "https://a.example/\r\nSet-Cookie: x=y"),
        ("address", "https://a.example/" + "x" * 300),
        ("address", "a.example"),
        ("address", "a.example:0"),
        ("address", "a.example:99999"),
        ("address", 7),
        ("ips", ["localhost"]),
        ("ips", ["192.0.2.1"] * 17),
        ("ips", "192.0.2.1/24"),
        ("ips", ["fe80::1%eth0"]),
        ("weight", 0),
        ("weight", 1001),
        ("weight", True),
        ("weight", [1]),
        ("pool", "a/b"),
        ("instance", ""),
        ("state", "asleep"),
    ],
)
def test_a_record_that_would_harm_is_refused(field: str, value: object) -> None:
    """What goes into redirects and DNS is checked, whatever wrote it; the error names the field."""
    data = {**json.loads(encode_record(instance("a"))), field: value}
    with pytest.raises(RemoteProtocolError, match=f"field {field} "):
        INSTANCES.decode(json.dumps(data).encode())
