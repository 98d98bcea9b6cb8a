"""The agent of one node: what it writes to discovery, and when its node may carry publishes.

A heartbeat vouches for delivery: it is written only while the node's Redis is up and returns what
is published on it. A Redis that comes back as another process, or after a silence of more than a
lease, begins a new incarnation: the node joins again, so that it takes publishes only after every
sidecar has subscribed again.

The *publish gate* is the right of sidecars to publish. Where Redis lets the agent set rights
(`FenceMode.ACL`), the gate is closed from the start of an incarnation until the node is active, and
again before its last message, END: Redis itself then refuses a publisher that has not heard the
news, and the publisher tries another node.

Phases follow `MOVES`; docs/design.md draws them from it. The record in discovery shows the
`NodeState` of a phase. A new incarnation begins at `ANNOUNCING`, from any phase in `RENEWABLE`.

Long because joining and leaving share every fact they wait for.
"""

from collections import Counter
from collections.abc import Mapping
from enum import Enum
from math import inf
from types import MappingProxyType

import attrs

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
from fanout.core.histogram import LONG_SECONDS, Histogram, HistogramStatistics
from fanout.core.rival import Rival
from fanout.values.names import PROTOCOL_VERSION, Endpoint, NodeId, SidecarId
from fanout.values.records import FenceMode, Identity, NodeRecord, NodeState, SidecarRecord


class Phase(Enum):
    """What an agent waits for."""

    STARTING = "starting"  # Redis to be up, and no other agent to use this node id
    ANNOUNCING = "announcing"  # discovery to take the record, and to be read after that
    COVERING = "covering"  # every live sidecar to subscribe
    ACTIVE = "active"
    QUIESCING = "quiescing"  # every live sidecar to stop publishing
    ENDING = "ending"  # every sidecar to leave after END
    GONE = "gone"


MOVES = {
    Phase.STARTING: {Phase.ANNOUNCING},
    Phase.ANNOUNCING: {Phase.COVERING, Phase.QUIESCING},
    Phase.COVERING: {Phase.ACTIVE, Phase.QUIESCING},
    Phase.ACTIVE: {Phase.QUIESCING},
    Phase.QUIESCING: {Phase.ENDING},
    Phase.ENDING: {Phase.GONE},
    Phase.GONE: set[Phase](),
}
"""Legal moves within one incarnation."""

RENEWABLE = {Phase.ANNOUNCING, Phase.COVERING, Phase.ACTIVE}
"""The phases from which a new incarnation may begin, at ANNOUNCING."""

STATES = {
    Phase.ANNOUNCING: NodeState.JOINING,
    Phase.COVERING: NodeState.JOINING,
    Phase.ACTIVE: NodeState.ACTIVE,
    Phase.QUIESCING: NodeState.DRAINING,
    Phase.ENDING: NodeState.DRAINING,
    Phase.GONE: NodeState.GONE,
}
"""The state of each phase as the record shows it; there is no record in STARTING."""

COUNT_INTERVAL_SECONDS = 0.25
"""How often sidecars are counted on the nodes while a join or a drain waits for the count."""


@attrs.frozen(kw_only=True)
class AgentStatistics:
    """The state of a node, and the sums since the agent started."""

    phase: Phase
    state: NodeState | None  # None before Redis was first up
    state_since: float  # the agent's clock
    vouched: bool  # whether the node's Redis delivers
    incarnations: int
    heartbeats: int
    heartbeat_at: float  # -inf before the first
    sidecars: int  # live ones in discovery
    missing: tuple[SidecarId, ...]  # sidecars that a join or a drain waits for
    joins: HistogramStatistics  # until the node was active
    drains: HistogramStatistics  # until it was gone
    deadlines_missed: Mapping[str, int]
    """`join`: activated though sidecars were missing; `publishers`: the gate was closed though
    some may still publish; `subscribers`: left though some were still subscribed."""


@attrs.frozen(slots=True)
class Redis:
    """One run of the node's Redis server."""

    run_id: str
    endpoint: Endpoint
    fence: FenceMode
    tls: bool = False


@attrs.define(eq=False, slots=True)
class _Sums:
    """What has passed since the agent started."""

    incarnations: int = 0
    heartbeats: int = 0
    heartbeat_at: float = -inf
    joins: Histogram = attrs.field(factory=lambda: Histogram(LONG_SECONDS))
    drains: Histogram = attrs.field(factory=lambda: Histogram(LONG_SECONDS))
    deadlines_missed: Counter[str] = attrs.field(
        factory=lambda: Counter({"join": 0, "publishers": 0, "subscribers": 0})
    )


class Agent:
    """The machine of one node.

    Args:
        cluster: the fleet.
        node: the node's id.
        owner: name of this agent, made by `fanout.core.rival.owner_name`.
        started_ms: wall clock at the start; the first incarnation unless discovery has a later one.
        heartbeat_interval_seconds: between records.
        poll_interval_seconds: between reads of discovery by the shell.
        lease_seconds: how long others may believe a record.
        join_timeout_seconds: the longest wait for sidecars to subscribe.
        drain_timeout_seconds: the longest wait for publishers and then subscribers to leave.

    """

    def __init__(
        self,
        *,
        cluster: str,
        node: NodeId,
        owner: str,
        started_ms: int,
        heartbeat_interval_seconds: float,
        poll_interval_seconds: float,
        lease_seconds: float,
        join_timeout_seconds: float,
        drain_timeout_seconds: float,
    ) -> None:
        self._cluster = cluster
        self._node = node
        self._owner = owner
        self._next_incarnation = started_ms
        self._heartbeat = heartbeat_interval_seconds
        self._lease = lease_seconds
        self._join_timeout = join_timeout_seconds
        self._drain_timeout = drain_timeout_seconds
        self._rival = Rival(owner, watch_seconds=heartbeat_interval_seconds + poll_interval_seconds)
        self._phase = Phase.STARTING
        self._since = -inf  # in the present state
        self._redis: Redis | None = None
        self._up = False  # whether that Redis delivers
        self._record: NodeRecord | None = None  # as last written
        self._sidecars: Mapping[SidecarId, SidecarRecord] = {}
        self._others: tuple[NodeRecord, ...] = ()  # active nodes but this one
        self._next_heartbeat = inf
        self._deadline = inf  # of the join, or of the whole drain
        self._quiesce_deadline = inf
        self._leave_by = inf  # when to drain although no other node is active
        self._next_count = 0.0
        self._agreed = False  # whether the last count allowed what waits for it
        self._sums = _Sums()

    def statistics(self) -> AgentStatistics:
        """Return the state of the node, and the sums since the start."""
        sums = self._sums
        return AgentStatistics(
            phase=self._phase,
            state=self.state,
            state_since=self._since,
            vouched=self._up,
            incarnations=sums.incarnations,
            heartbeats=sums.heartbeats,
            heartbeat_at=sums.heartbeat_at,
            sidecars=len(self._sidecars),
            missing=self._missing(),
            joins=sums.joins.statistics(),
            drains=sums.drains.statistics(),
            deadlines_missed=MappingProxyType(dict(sums.deadlines_missed)),
        )

    @property
    def state(self) -> NodeState | None:
        """The present state; None before Redis was first up."""
        return STATES.get(self._phase)

    @property
    def is_last(self) -> bool:
        """Whether live sidecars would be without any active node if this one drained."""
        return self._phase is Phase.ACTIVE and not self._others and bool(self._sidecars)

    def redis_up(self, redis: Redis, now: float) -> tuple[Effect, ...]:
        """Record that the node's Redis runs and delivers."""
        was_up, self._up, self._redis = self._up, True, redis
        record = self._record
        if record is None or self._phase is Phase.GONE or was_up:
            return self.advance(now)
        if record.run_id != redis.run_id:  # a new incarnation, unless the old one is draining
            return self.advance(now) if self._phase in RENEWABLE else self._beat(now)
        if self._phase in RENEWABLE and now - self._sums.heartbeat_at > self._lease:
            return self.overslept(now)
        # What an earlier connection was to do may not have been done.
        is_open = self._phase is Phase.ACTIVE
        return (*self._arrange(record, is_open=is_open), *self._beat(now), *self.advance(now))

    def overslept(self, now: float) -> tuple[Effect, ...]:
        """Record that this node was silent for longer than its lease: it joins again.

        Sidecars that started meanwhile do not know it, and others have removed it: to publish there
        before they have subscribed would lose messages.
        """
        if self._phase in RENEWABLE and self._up:
            return self._begin_incarnation(now)
        return self.advance(now)

    def redis_down(self) -> None:
        """Record that the node's Redis is lost or does not deliver: nothing vouches for it."""
        self._up = False
        self._next_heartbeat = inf

    def looked(
        self,
        sidecars: Mapping[SidecarId, SidecarRecord],
        nodes: Mapping[NodeId, NodeRecord],
        now: float,
    ) -> tuple[Effect, ...]:
        """Take the live members, after each read of discovery and whenever a lease ran out."""
        self._sidecars = dict(sidecars)
        self._others = tuple(
            record
            for name, record in nodes.items()
            if name != self._node and record.state is NodeState.ACTIVE
        )
        self._rival.looked(now)
        return self.advance(now)

    def told(self, incarnation: int, now: float) -> tuple[Effect, ...]:
        """Record that discovery took the joining record, and was read and looked at since."""
        if self._record is None or self._record.incarnation != incarnation:
            return ()
        if self._phase is Phase.ANNOUNCING:
            self._enter(Phase.COVERING, now)
        return self.advance(now)

    def found(self, instance: int, record: NodeRecord, now: float) -> tuple[Effect, ...]:
        """Take a record of this node id that a discovery instance has, by any writer."""
        self._next_incarnation = max(self._next_incarnation, record.incarnation + 1)
        own = self._record
        if record.owner == self._owner or self._phase is Phase.GONE:
            return ()
        self._rival.found(instance, record, self._redis, now)
        if self._rival.lives and (own is None or self._rival.is_older):
            return (Superseded(record),)
        overtaken = own is not None and record.incarnation >= own.incarnation
        if overtaken and self._phase in RENEWABLE and self._up:
            # Sidecars would ignore this incarnation. If the rival lives, it is younger and exits.
            return self._begin_incarnation(now)
        return ()

    def counted(
        self, incarnation: int, here: int | None, most_elsewhere: int, now: float
    ) -> tuple[Effect, ...]:
        """Take how many sidecars are subscribed; `here` is None when the node did not answer."""
        record = self._record
        if record is None or record.incarnation != incarnation:
            return ()
        self._next_count = now + COUNT_INTERVAL_SECONDS
        if here is not None:
            joining = self.state is NodeState.JOINING
            self._agreed = here >= most_elsewhere if joining else here == 0
        return self.advance(now)

    def leave(self, now: float) -> tuple[Effect, ...]:
        """Drain once another node is active or no sidecar lives, at the latest after the timeout."""
        if self._leave_by == inf:
            self._leave_by = now + self._drain_timeout
        return self.advance(now)

    def drain(self, now: float) -> tuple[Effect, ...]:
        """Begin to drain now. Idempotent."""
        if Phase.QUIESCING not in MOVES[self._phase]:
            return ()
        self._quiesce_deadline = now + self._drain_timeout / 2
        self._deadline = now + self._drain_timeout
        self._agreed, self._next_count = False, now
        return (*self._enter(Phase.QUIESCING, now), *self.advance(now))

    def advance(self, now: float) -> tuple[Effect, ...]:
        """Do what is due."""
        effects: list[Effect] = []
        if self._needs_incarnation(now):
            effects.extend(self._begin_incarnation(now))
        if self._phase in (Phase.STARTING, Phase.GONE):
            return tuple(effects)
        if self._leave_by < inf and (not self.is_last or now >= self._leave_by):
            self._leave_by = inf
            effects.extend(self.drain(now))
        elif self._phase is Phase.COVERING and self._up:
            effects.extend(self._join(now))
        elif self._phase in (Phase.QUIESCING, Phase.ENDING):
            effects.extend(self._leave(now))
        if self._up and now >= self._next_heartbeat:
            effects.extend(self._beat(now))
        return tuple(effects)

    def next_deadline(self) -> float:
        """Return when `advance` has something to do; infinity when idle."""
        if self._phase is Phase.STARTING:
            return self._rival.clear_at if self._up else inf
        if self._phase is Phase.GONE:
            return inf
        due = min(self._next_heartbeat, self._leave_by)
        if self._phase is Phase.QUIESCING:
            due = min(due, self._quiesce_deadline)
        elif self._phase is Phase.ENDING:
            due = min(due, self._deadline, self._next_count if self._up else inf)
        elif self._phase is Phase.COVERING and self._up:
            due = min(due, self._deadline, inf if self._missing() else self._next_count)
        return due

    def _needs_incarnation(self, now: float) -> bool:
        """Return whether the Redis that is up has no incarnation yet, and may have one."""
        redis, record = self._redis, self._record
        if not self._up or redis is None or self._rival.clear_at > now:
            return False
        return record is None or (self._phase in RENEWABLE and record.run_id != redis.run_id)

    def _begin_incarnation(self, now: float) -> tuple[Effect, ...]:
        """Join, as an incarnation that no sidecar knows yet."""
        redis = self._redis
        assert redis is not None  # noqa: S101 - only called for a Redis that is up
        incarnation = self._next_incarnation
        self._next_incarnation += 1
        record = self._record = NodeRecord(
            cluster=self._cluster,
            node=self._node,
            incarnation=incarnation,
            version=0,
            owner=self._owner,
            state=NodeState.JOINING,
            endpoint=redis.endpoint,
            run_id=redis.run_id,
            lease_seconds=self._lease,
            fence=redis.fence,
            tls=redis.tls,
        )
        self._phase = Phase.ANNOUNCING
        self._agreed = False
        self._since = self._next_count = now
        self._sums.incarnations += 1
        self._deadline = now + self._join_timeout
        return (*self._arrange(record, is_open=False), *self._beat(now))

    def _arrange(self, record: NodeRecord, *, is_open: bool) -> tuple[Effect, ...]:
        """Return what a connection to the node begins with."""
        identity = Identity(
            cluster=record.cluster,
            node=record.node,
            incarnation=record.incarnation,
            run_id=record.run_id,
        )
        return (*self._gate(is_open=is_open), SetIdentity(identity))

    def _gate(self, *, is_open: bool) -> tuple[Effect, ...]:
        """Return what sets the publish gate; nothing where Redis does not let the agent."""
        assert self._record is not None  # noqa: S101 - only asked of a node that has a record
        if self._record.fence is not FenceMode.ACL:
            return ()
        return (OpenGate() if is_open else CloseGate(),)

    def _join(self, now: float) -> tuple[Effect, ...]:
        """Activate once all known sidecars cover the node, as many as elsewhere, or at the deadline."""
        assert self._record is not None  # noqa: S101 - COVERING has a record
        missing = self._missing()
        late = now >= self._deadline
        if not late:
            if missing:
                return ()
            if self._others and not self._agreed:
                return self._count(now)
        self._sums.deadlines_missed["join"] += late
        effects = (*self._gate(is_open=True), *self._enter(Phase.ACTIVE, now))
        return (*effects, Activated(self._record, missing, late))

    def _leave(self, now: float) -> tuple[Effect, ...]:
        """Wait for publishers, then publish END, then wait for subscribers."""
        assert self._record is not None  # noqa: S101 - a node that drains has a record
        effects: list[Effect] = []
        if self._phase is Phase.QUIESCING:
            missing = self._missing()
            if missing and now < self._quiesce_deadline:
                return ()
            self._sums.deadlines_missed["publishers"] += bool(missing)
            self._next_count = now
            effects += self._enter(Phase.ENDING, now)
            if self._up:
                effects += self._gate(is_open=False)
        if self._agreed or not self._up or now >= self._deadline:
            self._sums.deadlines_missed["subscribers"] += self._up and not self._agreed
            effects.extend(self._enter(Phase.GONE, now))
            effects.append(Left(self._record))
        elif count := self._count(now):
            # Again with every count: a sidecar that has subscribed meanwhile did not read it.
            effects += [PublishEnd(self._record.incarnation), *count]
        return tuple(effects)

    def _count(self, now: float) -> tuple[Effect, ...]:
        """Ask for a count, if none is under way."""
        assert self._record is not None  # noqa: S101 - only asked of a node that has a record
        if now < self._next_count:
            return ()
        self._next_count = inf
        others = self._others if self._phase is Phase.COVERING else ()
        return (CountSidecars(self._record.incarnation, others),)

    def _missing(self) -> tuple[SidecarId, ...]:
        """Return the live sidecars that the present state waits for.

        Sidecars of another protocol version are not among them: they could not acknowledge.
        """
        fields = {NodeState.JOINING: "covered", NodeState.DRAINING: "stopped"}
        field = fields.get(self.state) if self.state is not None else None
        if field is None or self._record is None:
            return ()
        wanted = self._record.incarnation
        return tuple(
            record.sidecar
            for record in self._sidecars.values()
            if record.protocol_min <= PROTOCOL_VERSION <= record.protocol_max
            and getattr(record, field).get(self._node) != wanted
        )

    def _enter(self, phase: Phase, now: float) -> tuple[Effect, ...]:
        """Move to a phase; write the record where its state is another one.

        Raises:
            ValueError: the move is not in `MOVES`.

        """
        before, state = self._phase, STATES[phase]
        if phase not in MOVES[before] or self._record is None:
            raise ValueError(f"no move from {before} to {phase}")
        self._phase = phase
        if state is STATES[before]:
            return ()
        if state is NodeState.GONE:
            self._sums.drains.add(now - self._since)
        elif state is NodeState.ACTIVE:
            self._sums.joins.add(now - self._since)
        self._record, self._since = attrs.evolve(self._record, state=state), now
        return self._beat(now)

    def _beat(self, now: float) -> tuple[Effect, ...]:
        """Write the whole record with a new version."""
        assert self._record is not None  # noqa: S101 - a node without a record has no heartbeat
        self._record = attrs.evolve(self._record, version=self._record.version + 1)
        self._sums.heartbeats += 1
        self._sums.heartbeat_at = now
        self._next_heartbeat = now + self._heartbeat if self._up else inf
        return (WriteRecord(self._record),)
