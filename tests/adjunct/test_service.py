"""The gateway in a sidecar: the life of an instance, and what HTTP callers are told."""

import random
from collections import Counter
from collections.abc import AsyncIterator
from http.cookies import SimpleCookie
from typing import Any, cast

import attrs
import httpx
import pytest
import structlog
import trio
from starlette.applications import Starlette
from trio.testing import MockClock

from fanout.adjunct.gateway import INSTANCES, Affinity, InstanceRecord, Pools
from fanout.adjunct.gateway.routes import gateway_routes
from fanout.adjunct.gateway.service import Gateway
from fanout.adjunct.gateway.status import NoSuchPool, read_pools
from fanout.config import FleetConfig, SidecarConfig
from fanout.runtime.adjuncts import Sidecar
from fanout.runtime.registry import Registry
from fanout.runtime.watch import Watch, open_watch
from fanout.runtime.world import World
from fanout.values import Endpoint, NodeState, Snapshot
from tests.adjunct.test_pools import instance
from tests.runtime.fleet import LEASE, TIMINGS, MemoryFleet, Service, memory_fleet, until

SIDECAR: dict[str, object] = {"id": "s", "discovery": "redis://h"}
SERVICE = Endpoint("service", 8080)


async def start(fleet: MemoryFleet, name: str, **settings: Any) -> Service:
    """Start a sidecar whose service is an instance of `web`."""
    config = SidecarConfig.from_mapping(
        {
            "id": name,
            "discovery": "redis://discovery-1",
            "gateway_pool": "web",
            "gateway_address": "https://192.0.2.1:8080",
            **settings,
        }
    )
    return await fleet.sidecar(name, adjuncts=(Gateway(config),), wait=False)


def states(watch: Watch) -> dict[str, str]:
    """Return the state of every instance."""
    return {each.instance: each.state.value for each in watch.members(INSTANCES).values()}


# Instances.


async def test_an_instance_lives_as_its_sidecar_does(autojump_clock: MockClock) -> None:
    """Joining while there is no node, active when ready, draining when told to stop, then gone."""
    async with memory_fleet(nodes=0, sidecars=0) as fleet:
        config = FleetConfig(discovery=fleet.addresses())
        async with open_watch(config, (INSTANCES,), world=fleet.world) as (_, watch):
            # No node, no readiness: a sidecar that starts before its fleet hands out nobody.
            sidecar = await start(fleet, "web-1", gateway_weight=3, gateway_drain_seconds=40)
            await until(lambda: states(watch) == {"web-1": "joining"})
            await trio.sleep(2 * LEASE)
            assert states(watch) == {"web-1": "joining"}

            await fleet.node("node-1")
            await until(lambda: states(watch) == {"web-1": "active"})
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


async def test_an_instance_that_crashes_is_gone_by_its_lease(autojump_clock: MockClock) -> None:
    """And one that was told twice to stop does not wait to drain."""
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
    """It joins anew whenever the service takes connections again, as another life."""
    async with memory_fleet(nodes=1, sidecars=0) as fleet:
        config = FleetConfig(discovery=fleet.addresses())
        async with open_watch(config, (INSTANCES,), world=fleet.world) as (_, watch):
            sidecar = await start(fleet, "web-1", gateway_check=str(SERVICE))
            await sidecar.ready.wait()
            await trio.sleep(LEASE)
            assert states(watch) == {"web-1": "joining"}

            lives = []
            for _ in range(2):
                service = await fleet.network.bind(SERVICE)
                service.listen()
                await until(lambda: states(watch) == {"web-1": "active"})
                lives += [each.incarnation for each in watch.members(INSTANCES).values()]
                service.close()
                await until(lambda: states(watch) == {"web-1": "joining"})
            assert lives[0] < lives[1]

            began = trio.current_time()
            assert await sidecar.leave() == 0
            assert trio.current_time() - began < 1  # nobody to drain
            await until(lambda: states(watch) == {})


class SlowRegistry:
    """Takes longer for a write than the instance waits for its next heartbeat."""

    def __init__(self) -> None:
        self.written: list[tuple[NodeState, bool]] = []

    async def write(self, record: InstanceRecord, *, news: bool) -> int:
        """Take a record."""
        self.written.append((record.state, news))
        await trio.sleep(3 * TIMINGS.heartbeat_interval_seconds)
        return 1


async def test_heartbeats_are_no_news_and_none_follows_the_goodbye(
    autojump_clock: MockClock,
) -> None:
    """Not even one that was due while discovery was slow to take the goodbye."""
    registry = SlowRegistry()
    config = SidecarConfig.from_mapping(
        {**SIDECAR, "gateway_pool": "web", "gateway_address": "h:1", "gateway_drain_seconds": 60}
    )
    sidecar = Sidecar(
        config=config,
        world=World(),
        registry=cast("Registry", registry),
        watch=Watch("default", (INSTANCES,), instances=1),
    )
    gateway = Gateway(config)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(gateway.run, sidecar)
        await trio.sleep(30)
        sidecar.ready.set()
        await trio.sleep(30)
        await gateway.drain(sidecar)
        await gateway.say_goodbye(sidecar)
        await trio.sleep(30)
        nursery.cancel_scope.cancel()

    states = [state for state, _ in registry.written]
    order = [NodeState.JOINING, NodeState.ACTIVE, NodeState.DRAINING, NodeState.GONE]
    assert sorted(states, key=order.index) == states
    assert all(states.count(state) > 1 for state in order[:-1])
    assert [state for state, news in registry.written if news] == order


@pytest.mark.parametrize(
    ("settings", "has_token"),
    [({}, False), ({"secret": "s"}, True), ({"gateway_secret": "s"}, True)],
)
async def test_tokens_need_a_secret(settings: dict[str, str], has_token: bool) -> None:  # noqa: FBT001
    """That of the fleet will do."""
    config = SidecarConfig.from_mapping({**SIDECAR, **settings})
    watch = Watch("default", (INSTANCES,), instances=1)
    watch.on_snapshot(0, Snapshot(further=(instance("a", cluster="default"),)))
    sidecar = Sidecar(
        config=config, world=World(), registry=cast("Registry", SlowRegistry()), watch=watch
    )
    transport = httpx.ASGITransport(Starlette(routes=Gateway(config).routes(sidecar)))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        answer = await client.get("/gateway/web")

    assert (answer.json()["token"] is not None, "set-cookie" in answer.headers) == (has_token,) * 2


async def test_status_reads_pools_once(autojump_clock: MockClock) -> None:
    """All of them, or one; one that is not there is an error that names those that are."""
    async with memory_fleet(nodes=1, sidecars=0) as fleet:
        config = FleetConfig(discovery=fleet.addresses())
        assert await read_pools(config, world=fleet.world) == {}
        sidecar = await start(fleet, "web-1", gateway_ip="192.0.2.9 2001:db8::9")
        await sidecar.ready.wait()
        await trio.sleep(1)
        wanted = {
            "instance": "web-1",
            "state": "active",
            "address": "https://192.0.2.1:8080",
            "ips": ["192.0.2.9", "2001:db8::9"],
            "weight": 1,
        }

        assert await read_pools(config, world=fleet.world) == {"web": [wanted]}
        assert await read_pools(config, "web", world=fleet.world) == {"web": [wanted]}
        with pytest.raises(NoSuchPool, match=r"'wbe'.*known: web"):
            await read_pools(config, "wbe", world=fleet.world)


async def test_a_sidecar_that_only_hands_out_registers_nothing(autojump_clock: MockClock) -> None:
    """It sees the others' instances and leaves without waiting."""
    config = SidecarConfig.from_mapping(
        {"id": "front", "discovery": "redis://h", "gateway_serve": "yes"}
    )
    async with memory_fleet(nodes=1, sidecars=0) as fleet:
        front = await fleet.sidecar("front", adjuncts=(Gateway(config),))
        await (await start(fleet, "web-1")).ready.wait()
        found = await read_pools(FleetConfig(discovery=fleet.addresses()), world=fleet.world)
        assert [each["instance"] for each in found["web"]] == ["web-1"]
        began = trio.current_time()
        assert await front.leave() == 0
        assert trio.current_time() - began < 1


# HTTP.


@attrs.define
class Door:
    """The routes over the pools that a test sets."""

    client: httpx.AsyncClient
    watch: Watch

    def say(self, *instances: InstanceRecord) -> None:
        """Have discovery list these."""
        self.watch.on_snapshot(0, Snapshot(further=instances))

    async def get(self, path: str, **headers: str) -> httpx.Response:
        """Ask, as somebody who keeps no cookies."""
        self.client.cookies.clear()
        return await self.client.get(path, headers=headers)


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    """Two active instances, one of them no website."""
    watch = Watch("c", (INSTANCES,), instances=1)
    pools = Pools(
        watch,
        affinity=Affinity("s3cret", "c", 60),
        rng=random.Random(1),
        wall_seconds=lambda: 1000.0,
    )
    app = Starlette(routes=gateway_routes(pools, lifetime_seconds=60, retry_seconds=1.5))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield Door(client, watch)


async def test_callers_are_told_an_instance_and_a_token(door: Door) -> None:
    """Each in its turn; with the token, by query or cookie, the same again."""
    door.say(instance("a"), instance("b"))
    answers = [await door.get("/gateway/web") for _ in range(4)]
    bodies = [each.json() for each in answers]
    first = bodies[0]
    token = first["token"]

    assert Counter(each["instance"] for each in bodies) == {"a": 2, "b": 2}
    assert first == {
        "pool": "web",
        "instance": first["instance"],
        "address": f"https://{first['instance']}.example",
        "token": token,
        "returning": False,
    }
    assert {each.headers["cache-control"] for each in answers} == {"no-store"}
    for _ in range(2):
        by_query = (await door.get(f"/gateway/web?token={token}")).json()
        by_cookie = (await door.get("/gateway/web", cookie=f"fanout_gateway_web={token}")).json()
        for again in (by_query, by_cookie):
            assert (again["instance"], again["returning"]) == (first["instance"], True)


@pytest.mark.parametrize(
    ("path", "accept", "code"),
    [
        ("/gateway/web?redirect", "*/*", 307),
        ("/gateway/web", "text/html,application/xhtml+xml,*/*;q=0.8", 307),
        ("/gateway/web", "text/html, application/json", 200),
        ("/gateway/web", "*/*", 200),
    ],
)
async def test_browsers_are_sent_on(door: Door, path: str, accept: str, code: int) -> None:
    """With a cookie that no script and no other site's request sees, and that ends."""
    door.say(instance("a"))
    answer = await door.get(path, accept=accept)
    cookie = SimpleCookie(answer.headers["set-cookie"])["fanout_gateway_web"]

    assert answer.status_code == code
    assert answer.headers.get("location") == ("https://a.example" if code == 307 else None)
    assert answer.headers["cache-control"] == "no-store"
    assert (cookie["max-age"], cookie["samesite"], cookie["path"]) == ("60", "lax", "/")
    assert cookie["httponly"]
    assert not cookie["secure"]
    assert SimpleCookie((await door.get("https://gateway/gateway/web")).headers["set-cookie"])[
        "fanout_gateway_web"
    ]["secure"]


async def test_an_address_that_is_no_website_is_told_not_gone_to(door: Door) -> None:
    """A browser gets it as JSON."""
    door.say(instance("a", address="192.0.2.1:5000"))
    answer = await door.get("/gateway/web?redirect")

    assert (answer.status_code, answer.json()["address"]) == (200, "192.0.2.1:5000")


async def test_refusals_have_stable_codes(door: Door) -> None:
    """An unknown pool is the caller's mistake; no instance passes, and says when to ask again."""
    door.say(instance("a", NodeState.DRAINING))
    unknown = await door.get("/gateway/webb?redirect")
    nobody = await door.get("/gateway/web", accept="text/html")

    assert (unknown.status_code, unknown.json()["code"]) == (404, "NOPOOL")
    assert (nobody.status_code, nobody.json()["code"]) == (503, "NOINSTANCE")
    assert nobody.headers["retry-after"] == "2"
    assert "set-cookie" not in nobody.headers
    assert (await door.client.post("/gateway/web")).status_code == 405


async def test_the_listing_shows_every_pool(door: Door) -> None:
    """And all its instances, in whatever state."""
    door.say(
        instance("a"),
        instance("b", NodeState.DRAINING, ips=("192.0.2.1",)),
        instance("x", pool="v"),
    )

    assert (await door.get("/gateway")).json() == {
        "v": [
            {
                "instance": "x", "state": "active", "address": "https://x.example", "ips": [],
                "weight": 1,
            },
        ],
        "web": [
            {
                "instance": "a", "state": "active", "address": "https://a.example", "ips": [],
                "weight": 1,
            },
            {
                "instance": "b", "state": "draining", "address": "https://b.example",
                "ips": ["192.0.2.1"], "weight": 1,
            },
        ],
    }  # fmt: skip


async def test_nothing_secret_is_logged_or_told(autojump_clock: MockClock) -> None:
    """The secret is in no event; nor in the text of the configuration."""
    with structlog.testing.capture_logs() as logs:
        async with memory_fleet(nodes=1, sidecars=0) as fleet:
            sidecar = await start(fleet, "web-1", gateway_secret="canary")
            await sidecar.ready.wait()
            await sidecar.leave()
    config = SidecarConfig.from_mapping(
        {"id": "s", "discovery": "redis://h", "gateway_secret": "canary"}
    )

    assert "instance_changed" in {each["event"] for each in logs}
    assert "canary" not in repr(logs) + repr(config)
