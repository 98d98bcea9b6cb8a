"""The agent of one node: runs the `Agent` state machine against a Redis and discovery.

Long because every effect of the agent needs the Redis, discovery and the state machine.
"""

from collections.abc import Callable
from functools import partial
from math import inf

import structlog
import trio

from fanout.config import NodeConfig, TlsFiles
from fanout.core.agent import Agent, Redis
from fanout.core.agent_effects import (
    Activated,
    CloseGate,
    CountSidecars,
    Effect,
    Left,
    OpenGate,
    PublishEnd,
    SetIdentity,
    Superseded,
    WriteRecord,
)
from fanout.core.membership import Membership
from fanout.core.rival import owner_name
from fanout.errors import CommandFailed, FanoutError, LinkLost
from fanout.notice import Notice
from fanout.runtime.agent.agent_metrics import AGENT_METRICS, NodeServiceStatistics
from fanout.runtime.agent.node_redis import NodeRedis
from fanout.runtime.discovery.registry import Registry
from fanout.runtime.metrics.monitoring import labels_of, start_admin
from fanout.runtime.net.certificates import Contexts
from fanout.runtime.net.http import AdminDoor, Readiness
from fanout.runtime.net.world import World, real_world
from fanout.runtime.process.console import announce_ready
from fanout.runtime.process.loop_watch import LoopWatch
from fanout.runtime.process.signals import Stop, open_signal_stop
from fanout.values.control import End
from fanout.values.names import CONTROL_CHANNEL, NodeId
from fanout.values.records import DrainRequest, NodeRecord, NodeState, Snapshot
from fanout.wire.records import encode_control

log = structlog.get_logger()

INTRODUCE_PAUSE_SECONDS = 0.05
"""How long a joining node waits before it writes its first record again."""


class NodeIdTaken(FanoutError):  # noqa: N818 - a state, not an error
    """Another agent uses this node id."""


async def run_node(
    config: NodeConfig,
    *,
    world: World | None = None,
    stop: Stop | None = None,
    announce: Callable[[str], None] = announce_ready,
) -> int:
    """Run a node's agent until it is stopped; return the exit code.

    Without `stop`, the first SIGTERM or SIGINT drains the node, the second exits at once.

    Raises:
        ConfigError: the Redis cannot be started, or the admin address cannot be bound.
        NodeIdTaken: another agent uses this node id.

    """
    if stop is None:
        async with open_signal_stop() as signals:
            return await run_node(config, world=world, stop=signals, announce=announce)
    contexts = Contexts(TlsFiles.of(config))
    world = world or real_world(contexts, config.node_network)
    service = _NodeService(config, world, contexts, stop, announce)
    with structlog.contextvars.bound_contextvars(cluster=config.cluster, node=config.id):
        return await service.run()


class _NodeService:
    """The tasks of one agent."""

    def __init__(
        self,
        config: NodeConfig,
        world: World,
        contexts: Contexts,
        stop: Stop,
        announce: Callable[[str], None],
    ) -> None:
        timings = config.timings
        self._contexts = contexts
        self._config = config
        self._stop = stop
        self._announce = announce
        self._announced = False
        self._membership = Membership(
            config.cluster, instances=len(config.discovery), data_plane=False
        )
        self._registry = Registry(
            world.network,
            config.discovery,
            config.cluster,
            readers=(self,),
            timings=timings,
            rng=world.rng,
            agent_of=NodeId(config.id),
        )
        self._redis = NodeRedis(config, world, on_up=self._redis_up, on_down=self._redis_down)
        started_ms = world.wall_milliseconds()
        self._agent = Agent(
            cluster=config.cluster,
            node=NodeId(config.id),
            owner=owner_name(started_ms, world.rng.getrandbits(128)),
            started_ms=started_ms,
            heartbeat_interval_seconds=timings.heartbeat_interval_seconds,
            poll_interval_seconds=timings.poll_interval_seconds,
            lease_seconds=timings.lease_seconds,
            join_timeout_seconds=timings.join_timeout_seconds,
            drain_timeout_seconds=timings.drain_timeout_seconds,
        )
        self._effects, self._todo = trio.open_memory_channel[Effect](1000)
        self._moved = Notice()
        self._left = trio.Event()
        self._written: NodeRecord | None = None
        self._refused: DrainRequest | None = None
        self._world = world
        self._loop = LoopWatch()
        self._admin = ""  # URL of the admin door, if there is one

    async def run(self) -> int:
        """Run all tasks until the node has left; return the exit code."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            if self._config.admin is not None:
                self._admin = await start_admin(
                    nursery,
                    self._world,
                    AdminDoor(
                        endpoint=self._config.admin,
                        readiness=self._readiness,
                        loop=self._loop,
                        tls=self._contexts.server,
                        hosts=self._config.host,
                    ),
                    AGENT_METRICS,
                    self.statistics,
                )
            nursery.start_soon(self._registry.run)
            nursery.start_soon(self._act)
            nursery.start_soon(self._keep_time)
            nursery.start_soon(self._redis.run)
            nursery.start_soon(self._leave_on_stop)
            nursery.start_soon(self._reload_on)
            nursery.start_soon(self._stop_at_once, nursery.cancel_scope)
            await self._left.wait()
            log.info("node_left")
            nursery.cancel_scope.cancel()
        return 1 if self._stop.now.is_set() and not self._left.is_set() else 0

    def statistics(self) -> NodeServiceStatistics:
        """Return the state of the agent and its counters."""
        return NodeServiceStatistics(
            labels=labels_of("fanout-node", self._config),
            agent=self._agent.statistics(),
            redis=self._redis.statistics(),
            discovery=self._registry.statistics(),
            loop_lag=self._loop.statistics(),
            unready=self._readiness().unready,
        )

    def _readiness(self) -> Readiness:
        agent = self._agent.statistics()
        age = self._membership.read_age(trio.current_time())
        state = agent.state.value if agent.state is not None else "starting"
        unready = ""
        if not agent.vouched:
            unready = "probe failed: Redis does not deliver messages"
        elif agent.state is not NodeState.ACTIVE:
            waiting = f"; waiting for {', '.join(agent.missing)}" if agent.missing else ""
            unready = f"not accepting publishes: node is {state}{waiting}"
        elif self._stop.requested.is_set():
            unready = "shutting down"
        facts = {
            "state": state,
            "missing": list(agent.missing),
            "discovery_readable": not self._membership.frozen,
            "discovery_age_seconds": None if age == inf else round(age, 3),
        }
        return Readiness(unready, facts)

    async def _leave_on_stop(self) -> None:
        await self._stop.requested.wait()
        if self._agent.state is None:
            self._left.set()  # no sidecar has seen this node
            return
        log.info("node_leaving")
        if self._agent.is_last:
            log.warning(
                "drain_waits", reason="no other node is active; signal again to exit at once"
            )
        self._do(self._agent.leave(trio.current_time()))

    async def _reload_on(self) -> None:
        while True:
            await self._stop.wait_reload()
            self._contexts.reload()

    async def _stop_at_once(self, scope: trio.CancelScope) -> None:
        await self._stop.now.wait()
        scope.cancel()

    # Redis.

    def _redis_up(self, redis: Redis) -> None:
        self._do(self._agent.redis_up(redis, trio.current_time()))

    def _redis_down(self) -> None:
        self._agent.redis_down()
        self._moved.set()

    # Discovery and time.

    def on_snapshot(self, instance: int, snapshot: Snapshot) -> None:
        """Apply a read of one discovery instance."""
        now = trio.current_time()
        for record in snapshot.nodes:
            if record.node == self._config.id and record.cluster == self._config.cluster:
                self._do(self._agent.found(instance, record, now))
        self._membership.read(instance, snapshot, now)
        self._update_agent(now)
        if snapshot.drain is not None:
            self._asked_to_drain(snapshot.drain)

    def on_unreachable(self, instance: int) -> None:
        """Record that one discovery instance cannot be read."""
        self._membership.unreachable(instance, trio.current_time())

    def _update_agent(self, now: float) -> None:
        view = self._membership
        self._do(self._agent.looked(view.sidecars, view.nodes, now))

    def _asked_to_drain(self, request: DrainRequest) -> None:
        """Drain on a request for this incarnation; refuse it when no other node is active."""
        record = self._written
        if record is None or request.incarnation != record.incarnation:
            return
        if self._agent.is_last and not request.force:
            if request != self._refused:
                self._refused = request
                log.warning("drain_refused", reason="no other node is active")
            return
        self._do(self._agent.drain(trio.current_time()))

    async def _keep_time(self) -> None:
        while True:
            seen = self._moved.count
            deadline = min(self._agent.next_deadline(), self._membership.next_deadline())
            with trio.move_on_at(deadline):
                await self._moved.wait(seen)
            now = trio.current_time()
            if self._membership.advance(now):
                self._update_agent(now)
            self._do(self._agent.advance(now))

    # The agent's effects.

    def _do(self, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            self._effects.send_nowait(effect)
        self._moved.set()

    async def _act(self) -> None:
        """Carry out the agent's effects, one after the other, until cancelled."""
        async for effect in self._todo:
            try:
                await self._carry_out(effect)
            except (LinkLost, CommandFailed) as error:
                log.warning("effect_failed", effect=type(effect).__name__, reason=str(error))
                self._redis.lose("a command failed")  # the reconnect repeats the set-up

    async def _carry_out(self, effect: Effect) -> None:
        match effect:
            case OpenGate():
                await self._redis.set_gate(is_open=True)
            case CloseGate():
                await self._redis.set_gate(is_open=False)
            case SetIdentity(identity):
                await self._redis.set_identity(identity)
            case WriteRecord(record):
                await self._write(record)
            case CountSidecars():
                self._nursery.start_soon(self._count, effect)
            case Activated(record, missing, late):
                log.info(
                    "node_activated",
                    incarnation=record.incarnation,
                    fence=record.fence.value,
                    late=late,
                    missing=missing,
                )
                if not self._announced:
                    self._announced = True
                    admin = f" admin={self._admin}" if self._admin else ""
                    self._announce(
                        f"ready node={record.node} redis={record.endpoint} "
                        f"state={record.state.value}{admin}"
                    )
            case PublishEnd(incarnation):
                end = encode_control(End(NodeId(self._config.id), incarnation))
                await self._redis.call("PUBLISH", CONTROL_CHANNEL, end)
            case Left():
                self._left.set()
            case Superseded(rival):
                raise NodeIdTaken(
                    f"another agent uses node id {rival.node}, at {rival.endpoint}; "
                    "give every node a unique id, or stop the other agent first"
                )

    async def _write(self, record: NodeRecord) -> None:
        """Write the record to discovery, with a hint unless it is a mere heartbeat."""
        before, self._written = self._written, record
        is_new = before is None or before.incarnation != record.incarnation
        news = is_new or (before is not None and before.state is not record.state)
        taken = await self._registry.write(record, news=news)
        if is_new:
            self._nursery.start_soon(self._introduce, record, taken)

    async def _introduce(self, record: NodeRecord, taken: int) -> None:
        """Write the first record of an incarnation, then read discovery: in this order.

        A sidecar that starts meanwhile either finds the record, or is found here and awaited.
        """
        while not (taken and await self._registry.refresh()):
            await trio.sleep(INTRODUCE_PAUSE_SECONDS)
            written = self._written
            if written is None or written.incarnation != record.incarnation:
                return
            taken = await self._registry.write(written)
        self._do(self._agent.told(record.incarnation, trio.current_time()))

    async def _count(self, effect: CountSidecars) -> None:
        counts: list[int] = []

        async def ask(record: NodeRecord) -> None:
            counts.append(await self._redis.count_on(record))

        async with trio.open_nursery() as nursery:
            for record in effect.others:
                nursery.start_soon(partial(ask, record))
        here = await self._redis.count()
        most = max(counts, default=0)
        self._do(self._agent.counted(effect.incarnation, here, most, trio.current_time()))
