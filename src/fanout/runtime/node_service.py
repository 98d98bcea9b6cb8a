"""The agent beside one node: runs the `Agent` machine against a Redis and discovery."""

from collections.abc import Callable

import structlog
import trio

from fanout.config import NodeConfig, RedisAddress
from fanout.core.agent import (
    Activated,
    Agent,
    Effect,
    Left,
    PublishEnd,
    SetIdentity,
    WriteRecord,
)
from fanout.core.backoff import Backoff
from fanout.core.membership import Membership
from fanout.errors import CommandFailed, LinkLost
from fanout.runtime.console import print_line
from fanout.runtime.link import Link, use_link
from fanout.runtime.redis_server import spawn_redis
from fanout.runtime.registry import Registry
from fanout.runtime.signals import Stop, open_signal_stop
from fanout.runtime.world import World
from fanout.values import (
    CONTROL_CHANNEL,
    IDENTITY_KEY,
    RESERVED_PREFIX,
    End,
    NodeId,
    NodeState,
    Snapshot,
)
from fanout.wire.records import encode_control, encode_record

log = structlog.get_logger()


async def run_node(
    config: NodeConfig,
    *,
    world: World | None = None,
    stop: Stop | None = None,
    announce: Callable[[str], None] = print_line,
) -> int:
    """Run a node's agent until it is told to stop; return the exit code.

    Without `stop` the first SIGTERM or SIGINT drains the node and a second one ends it at once.

    Raises:
        ConfigError: a Redis to be spawned cannot be.

    """
    if stop is None:
        async with open_signal_stop() as signals:
            return await run_node(config, world=world, stop=signals, announce=announce)
    service = _NodeService(config, world or World(), stop, announce)
    with structlog.contextvars.bound_contextvars(cluster=config.cluster, node=config.id):
        return await service.run()


class _NodeService:
    """The tasks of one agent."""

    def __init__(
        self, config: NodeConfig, world: World, stop: Stop, announce: Callable[[str], None]
    ) -> None:
        timings = config.timings
        self._config = config
        self._timings = timings
        self._network = world.network
        self._stop = stop
        self._announce = announce
        self._announced = False
        self._rng = world.rng
        self._membership = Membership(
            config.cluster, instances=len(config.discovery), data_plane=False
        )
        self._registry = Registry(
            world.network,
            config.discovery,
            config.cluster,
            on_snapshot=self._on_snapshot,
            on_unreachable=self._on_unreachable,
            timings=timings,
            rng=self._rng,
            sweep=True,
        )
        self._agent = Agent(
            cluster=config.cluster,
            node=NodeId(config.id),
            owner=f"{self._rng.getrandbits(128):032x}",
            started_ms=world.wall_milliseconds(),
            heartbeat_interval_seconds=timings.heartbeat_interval_seconds,
            lease_seconds=timings.lease_seconds,
            join_timeout_seconds=timings.join_timeout_seconds,
            drain_timeout_seconds=timings.drain_timeout_seconds,
        )
        self._link: Link | None = None
        self._probe_channel = RESERVED_PREFIX + b"probe:node:" + config.id.encode()
        self._probe_back = trio.Event()
        self._effects, self._todo = trio.open_memory_channel[Effect](1000)
        self._moved = trio.Event()
        self._left = trio.Event()

    async def run(self) -> int:
        """Run everything; return the exit code."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._registry.run)
            nursery.start_soon(self._act)
            nursery.start_soon(self._keep_time)
            nursery.start_soon(self._keep_redis)
            nursery.start_soon(self._stop_at_once, nursery.cancel_scope)
            await self._stop.requested.wait()
            log.info("node_draining")
            if self._agent.state is not None:
                self._do(self._agent.drain(trio.current_time()))
                await self._left.wait()
            log.info("node_left")
            nursery.cancel_scope.cancel()
        return 0 if self._left.is_set() or self._agent.state is None else 1

    async def _stop_at_once(self, scope: trio.CancelScope) -> None:
        await self._stop.now.wait()
        scope.cancel()

    # Redis.

    async def _keep_redis(self) -> None:
        """Keep a link to the node's Redis, which is started first if it is ours."""
        if self._config.spawn is None:
            assert self._config.redis is not None  # noqa: S101 - the config allows nothing else
            await self._keep_link(self._config.redis)
            return
        endpoint = self._config.spawn
        while True:
            async with spawn_redis(endpoint) as server:
                endpoint = server.endpoint  # the same port in its next life
                log.info("redis_started", redis=str(endpoint), pid=server.pid)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._keep_link, RedisAddress(endpoint))
                    await server.wait_exit()
                    nursery.cancel_scope.cancel()
            self._agent.redis_down()
            log.error("redis_died", redis=str(endpoint))

    async def _keep_link(self, address: RedisAddress) -> None:
        backoff = Backoff(
            first_seconds=self._timings.reconnect_first_seconds,
            max_seconds=self._timings.reconnect_max_seconds,
        )
        attempt = 0

        async def session(link: Link) -> None:
            await self._use_redis(link, address)

        while True:
            began = trio.current_time()
            try:
                await use_link(
                    self._network,
                    address,
                    session,
                    timeout_seconds=self._timings.connect_timeout_seconds,
                )
            except (LinkLost, CommandFailed) as error:
                log.warning("redis_lost", redis=str(address), reason=str(error))
            finally:
                self._link = None
                self._agent.redis_down()
                self._moved.set()
            attempt = 0 if trio.current_time() - began > backoff.max_seconds else attempt + 1
            await trio.sleep(backoff.delay_seconds(attempt, self._rng))

    async def _use_redis(self, link: Link, address: RedisAddress) -> None:
        """Prove delivery by a probe, again and again; a probe that fails ends the link."""
        link.on_push = self._on_push
        link.submit_subscription(b"SUBSCRIBE", (self._probe_channel,))
        info = await link.call("INFO", "server")
        run_id = dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)[
            "run_id"
        ]
        endpoint = self._config.advertise or address.endpoint
        while True:
            await self._probe(link)
            self._link = link
            self._do(self._agent.redis_up(run_id, endpoint, trio.current_time()))
            await trio.sleep(self._timings.probe_interval_seconds)

    async def _probe(self, link: Link) -> None:
        self._probe_back = trio.Event()
        with trio.move_on_after(self._timings.probe_timeout_seconds) as scope:
            await link.call("PUBLISH", self._probe_channel, b"")
            await self._probe_back.wait()
        if scope.cancelled_caught:
            raise LinkLost("a probe published on the node did not come back")

    def _on_push(self, push: list[object]) -> None:
        if push[0] == b"message":
            self._probe_back.set()

    # Discovery and time.

    def _on_snapshot(self, instance: int, snapshot: Snapshot) -> None:
        now = trio.current_time()
        for record in snapshot.nodes:
            if record.node == self._config.id:
                self._agent.outdone(record.incarnation)
        self._membership.read(instance, snapshot, now)
        self._do(self._agent.looked(self._membership.sidecars, now))

    def _on_unreachable(self, instance: int) -> None:
        self._membership.unreachable(instance, trio.current_time())

    async def _keep_time(self) -> None:
        while True:
            self._moved = trio.Event()
            deadline = min(self._agent.next_deadline(), self._membership.next_deadline())
            with trio.move_on_at(deadline):
                await self._moved.wait()
            now = trio.current_time()
            if self._membership.advance(now):
                self._do(self._agent.looked(self._membership.sidecars, now))
            self._do(self._agent.advance(now))

    # What the agent decides.

    def _do(self, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            self._effects.send_nowait(effect)
        self._moved.set()

    async def _act(self) -> None:
        """Carry out the agent's effects one after the other."""
        async for effect in self._todo:
            try:
                await self._carry_out(effect)
            except (LinkLost, CommandFailed) as error:
                log.warning("effect_failed", effect=type(effect).__name__, reason=str(error))
                if self._link is not None:
                    self._link.close("a command failed")  # the next life of the link does it anew

    async def _carry_out(self, effect: Effect) -> None:
        match effect:
            case SetIdentity(identity):
                await self._call("SET", IDENTITY_KEY, encode_record(identity))
            case WriteRecord(record):
                await self._registry.write(record)
                if record.state is NodeState.JOINING:
                    await self._registry.refresh()
            case Activated(record, missing):
                log.info("node_activated", incarnation=record.incarnation, missing=missing)
                if not self._announced:
                    self._announced = True
                    self._announce(
                        f"ready node={record.node} redis={record.endpoint} "
                        f"state={record.state.value}"
                    )
            case PublishEnd(incarnation):
                end = encode_control(End(NodeId(self._config.id), incarnation))
                await self._call("PUBLISH", CONTROL_CHANNEL, end)
            case Left():
                self._left.set()

    async def _call(self, *arguments: str | bytes) -> None:
        if self._link is None:
            raise LinkLost("the node's Redis is not connected")
        with trio.move_on_after(self._timings.connect_timeout_seconds) as scope:
            await self._link.call(*arguments)
        if scope.cancelled_caught:
            raise LinkLost("the node's Redis does not answer")
