"""A whole fleet in one process: the runtime as installed, the world around it in memory."""

import itertools
import random
from bisect import bisect_left
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import trio
import trio.testing
from starlette.requests import Request
from starlette.routing import BaseRoute, Route

from fanout.config import (
    DiscoveryAddress,
    Gateway,
    Limits,
    NodeConfig,
    RedisAddress,
    SidecarConfig,
    Timings,
)
from fanout.core.in_flight import Answer
from fanout.runtime.agent.node_service import run_node
from fanout.runtime.net.http import AdminDoor, Readiness
from fanout.runtime.net.world import World
from fanout.runtime.process.signals import Stop
from fanout.runtime.redis.link import Link, connect, greet
from fanout.runtime.sidecar.adjuncts import Adjunct
from fanout.runtime.sidecar_service import run_sidecar
from fanout.testing.network import MemoryNetwork
from fanout.testing.redis import FakeRedis
from fanout.values.names import Endpoint
from fanout.wire.redis.client import pack
from tests.support.exposition import samples

TIMINGS = Timings()
LEASE = TIMINGS.lease_seconds


@attrs.frozen
class Admin:
    """What a service would show on its admin door."""

    readiness: Callable[[], Readiness]
    routes: Sequence[BaseRoute]

    async def scrape(self) -> str:
        """Return what /metrics answers in OpenMetrics."""
        (metrics,) = [
            each for each in self.routes if isinstance(each, Route) and each.path == "/metrics"
        ]
        headers = [(b"accept", b"application/openmetrics-text; version=1.0.0")]
        response = await metrics.endpoint(Request({"type": "http", "headers": headers}))
        return bytes(response.body).decode()

    async def samples(self) -> dict[tuple[str, ...], float]:
        """Return the figures of /metrics by name and label values, labels in order of their names."""
        return samples(await self.scrape())


@attrs.define(eq=False)
class Service:
    """A node's agent or a sidecar that runs."""

    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    stop: Stop = attrs.field(factory=Stop)
    said: list[str] = attrs.field(factory=list)
    ready: trio.Event = attrs.field(factory=trio.Event)
    ready_at: float = float("inf")
    ended: trio.Event = attrs.field(factory=trio.Event)
    task: trio.lowlevel.Task | None = None
    code: int | None = None

    def announce(self, line: str) -> None:
        """Take the ready line."""
        self.said.append(line)
        self.ready_at = trio.current_time()
        self.ready.set()

    async def leave(self) -> int | None:
        """Ask it to leave in order and wait until it did."""
        self.stop.requested.set()
        await self.ended.wait()
        return self.code


class Client:
    """A RESP3 client of a sidecar."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.received: list[tuple[bytes, bytes]] = []
        self.confirmed: set[bytes] = set()
        self.outcomes: list[tuple[bytes, Answer]] = []
        link.on_pushes = self._take

    def _take(self, pushes: list[list[Any]]) -> None:
        for push in pushes:
            if push[0] == b"message":
                self.received.append((push[1], push[2]))
            elif push[0] == b"subscribe":
                self.confirmed.add(push[1])

    def subscribe(self, *channels: bytes) -> None:
        """Ask for channels, without waiting."""
        self.link.submit_subscription(b"SUBSCRIBE", channels)
        self.link.flush()

    async def subscribed(self, *channels: bytes) -> None:
        """Subscribe and wait for the confirmations."""
        self.subscribe(*channels)
        await until(lambda: self.confirmed.issuperset(channels))

    async def publish(self, channel: bytes, payload: bytes) -> int:
        """Publish and return the receivers. Raises CommandFailed."""
        return int(await self.link.call("PUBLISH", channel, payload))

    def publish_soon(self, channel: bytes, payload: bytes) -> None:
        """Publish without waiting; the outcome goes to `outcomes`."""
        self.link.submit(
            pack(b"PUBLISH", channel, payload),
            lambda answer: self.outcomes.append((payload, answer)),
        )
        self.link.flush()


class MemoryFleet:
    """Starts and breaks the members of a fleet."""

    def __init__(
        self, nursery: trio.Nursery, *, network: MemoryNetwork | None = None, seed: int = 1
    ) -> None:
        self.network = network or MemoryNetwork()
        self.rng = random.Random(seed)
        self.discovery: list[FakeRedis] = []
        self.redis: dict[str, FakeRedis] = {}
        self.connects: defaultdict[str, list[float]] = defaultdict(list)
        """The times of attempts to connect, by host."""
        self.network.on_connect = self._count_connect
        self.admin: dict[str, Admin] = {}
        """What the services show, by their names. HTTP itself is tested over real sockets."""
        self._nursery = nursery
        self._wall = itertools.count(1_000)
        self.node_login: tuple[str, str] | None = None
        self.world = World(
            network=self.network,
            rng=self.rng,
            wall_milliseconds=lambda: next(self._wall),
            serve_admin=self._serve_admin,
        )

    async def _serve_admin(
        self, door: AdminDoor, *, task_status: trio.TaskStatus[Endpoint]
    ) -> None:
        endpoint = door.endpoint
        admin = self.admin[endpoint.host] = Admin(door.readiness, door.routes)
        task_status.started(endpoint)
        try:
            await trio.sleep_forever()
        finally:
            if self.admin[endpoint.host] is admin:
                del self.admin[endpoint.host]

    async def start_redis(
        self, endpoint: Endpoint, managed: tuple[str, str] | None = None
    ) -> FakeRedis:
        """Start a Redis."""
        server = FakeRedis(self.network, endpoint, self.rng, managed=managed)
        await self._nursery.start(server.run)
        return server

    async def restart(self, server: FakeRedis) -> None:
        """Start a killed Redis again at its address, if it does not run yet."""
        await trio.testing.wait_all_tasks_blocked()
        if not server.running:
            await self._nursery.start(server.run)

    def kill(self, server: FakeRedis) -> None:
        """End a Redis at once, as SIGKILL does."""
        server.kill()
        self.network.reset(server.endpoint)

    async def add_discovery(self) -> FakeRedis:
        """Start a discovery instance; services started later use it."""
        number = len(self.discovery) + 1
        self.discovery.append(await self.start_redis(Endpoint(f"discovery-{number}", 6379)))
        return self.discovery[-1]

    async def node(self, name: str, *, wait: bool = True) -> Service:
        """Start a node with its agent and wait until it is active."""
        self.redis[name] = await self.start_redis(Endpoint(name, 6379), self.node_login)
        return await self.agent(name, wait=wait)

    async def agent(self, name: str, *, wait: bool = True) -> Service:
        """Start an agent for a node's Redis."""
        config = NodeConfig(
            id=name,
            discovery=self.addresses(),
            redis=RedisAddress(self.redis[name].endpoint, *(self.node_login or ())),
            admin=Endpoint(name, 9381),
            allow_unauthenticated="yes",
            timings=TIMINGS,
        )
        return await self._start(name, partial(run_node, config), wait=wait)

    async def sidecar(
        self,
        name: str,
        *,
        wait: bool = True,
        limits: Limits | None = None,
        users: str = "",
        adjuncts: Sequence[Adjunct] = (),
        gateway: Gateway | None = None,
        nodes_min: int = 1,
    ) -> Service:
        """Start a sidecar and wait until it is ready."""
        config = SidecarConfig(
            id=name,
            discovery=self.addresses(),
            resp=Endpoint(name, 6380),
            ws=Endpoint(name, 7380),
            admin=Endpoint(name, 9380),
            allow_unauthenticated="yes",
            users=users,
            host=("h",),
            timings=TIMINGS,
            limits=limits or Limits(),
            gateway=gateway or Gateway(),
        )
        if self.node_login is not None:
            username, password = self.node_login
            config = attrs.evolve(config, node_username=username, node_password=password)
        run = partial(run_sidecar, config, adjuncts=adjuncts, nodes_min=nodes_min)
        return await self._start(name, run, wait=wait)

    async def client(self, sidecar: str, username: str = "", password: str = "") -> Client:
        """Connect a client to a sidecar."""
        address = RedisAddress(Endpoint(sidecar, 6380), username, password)
        link = await connect(self.network, address.endpoint, timeout_seconds=5)
        self._nursery.start_soon(run_link, link)
        await greet(link, address)
        return Client(link)

    def _count_connect(self, _origin: str, endpoint: Endpoint) -> None:
        self.connects[endpoint.host].append(trio.current_time())

    def addresses(self) -> tuple[DiscoveryAddress, ...]:
        """Return the discovery instances."""
        return tuple(DiscoveryAddress(RedisAddress(each.endpoint)) for each in self.discovery)

    async def _start(self, name: str, run: Callable[..., Any], *, wait: bool) -> Service:
        service = Service()
        host = self.network.host(name)
        world = attrs.evolve(self.world, network=host, node_network=host)

        async def serve() -> None:
            service.task = trio.lowlevel.current_task()
            with service.scope:
                service.code = await run(world=world, stop=service.stop, announce=service.announce)
            service.ended.set()

        self._nursery.start_soon(serve)
        if wait:
            with trio.fail_after(120):
                await service.ready.wait()
        return service


async def run_link(link: Link) -> None:
    """Run a client's connection until it ends."""
    try:
        await link.run()
    except Exception as error:  # noqa: BLE001 - how a client's connection ends is told by its calls
        del error


@asynccontextmanager
async def memory_fleet(
    nodes: int = 3, sidecars: int = 2, *, network: MemoryNetwork | None = None, seed: int = 1
) -> AsyncIterator[MemoryFleet]:
    """Run a fleet of `node-1`... and `sidecar-1`... on one discovery instance."""
    async with trio.open_nursery() as nursery:
        fleet = MemoryFleet(nursery, network=network, seed=seed)
        await fleet.add_discovery()
        for number in range(1, nodes + 1):
            await fleet.node(f"node-{number}")
        for number in range(1, sidecars + 1):
            await fleet.sidecar(f"sidecar-{number}")
        yield fleet
        nursery.cancel_scope.cancel()


def at_once(times: list[float]) -> int:
    """Return the most of `times`, given in order, that fall within any 100 ms."""
    return max((bisect_left(times, each + 0.1) - n for n, each in enumerate(times)), default=0)


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> float:
    """Wait until something is so; return how long that took on the jumping clock."""
    began = trio.current_time()
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - any condition will do, and this clock jumps
            await trio.sleep(0.01)
    return trio.current_time() - began
