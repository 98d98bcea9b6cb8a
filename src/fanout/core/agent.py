"""What a node's agent tells discovery, and when its node may carry publishes.

A heartbeat vouches for delivery: it is written only while the node's Redis is up and returns what
is published on it. A Redis that comes back as another process is a new life: it joins anew, so
that nobody publishes on it before everybody has subscribed again.

The door is the right of sidecars to publish. Where Redis lets the agent set rights, it is shut
from the first moment of a life until the node is active, and again before the node's last message:
then Redis itself refuses a publisher that has not heard the news, which may try elsewhere.

Long because joining and leaving share every fact they wait for.
"""

from collections import Counter
from collections.abc import Mapping
from math import inf
from types import MappingProxyType

import attrs

from fanout.core.histogram import LONG_SECONDS, Histogram, HistogramStatistics
from fanout.core.rival import Rival
from fanout.values.names import PROTOCOL_VERSION, Endpoint, NodeId, SidecarId
from fanout.values.records import FenceMode, Identity, NodeRecord, NodeState, SidecarRecord

MOVES = {
    NodeState.JOINING: {NodeState.ACTIVE, NodeState.DRAINING},
    NodeState.ACTIVE: {NodeState.DRAINING},
    NodeState.DRAINING: {NodeState.GONE},
    NodeState.GONE: set(),
}
"""Legal moves within one incarnation."""

COUNT_INTERVAL_SECONDS = 0.25
"""How often sidecars are counted on the nodes while a join or a drain waits for the count."""


@attrs.frozen(slots=True)
class SetDoor:
    """Let sidecars publish on the node, or have Redis refuse them."""

    is_open: bool


@attrs.frozen(slots=True)
class SetIdentity:
    """Write the identity key on the node; before anything else is said about it."""

    identity: Identity


@attrs.frozen(slots=True)
class WriteRecord:
    """Write the record to discovery."""

    record: NodeRecord


@attrs.frozen(slots=True)
class CountSidecars:
    """Count the sidecars on this node and on the active `others`, then call `counted`."""

    incarnation: int
    others: tuple[NodeRecord, ...]


@attrs.frozen(slots=True)
class Activated:
    """The node carries publishes now; `missing` sidecars had not subscribed by the deadline."""

    record: NodeRecord
    missing: tuple[SidecarId, ...]
    late: bool  # whether the deadline had to decide


@attrs.frozen(slots=True)
class PublishEnd:
    """Publish the node's last message; more than once for those who come late."""

    incarnation: int


@attrs.frozen(slots=True)
class Left:
    """The goodbye is written; the agent may end."""

    record: NodeRecord


@attrs.frozen(slots=True)
class Superseded:
    """Another agent, older than this one, lives under the same node id; this one must end."""

    rival: NodeRecord


Effect = (
    SetDoor | SetIdentity | WriteRecord | CountSidecars | Activated | PublishEnd | Left | Superseded
)


@attrs.frozen(kw_only=True)
class AgentStatistics:
    """Where a node stands, and what has passed."""

    state: NodeState | None  # None before Redis was first up
    state_since: float  # the agent's clock
    vouched: bool  # whether the node's Redis delivers
    lives: int
    heartbeats: int
    heartbeat_at: float  # -inf before the first
    sidecars: int  # that live, as discovery tells
    missing: tuple[SidecarId, ...]  # those that a join or a drain waits for
    joins: HistogramStatistics  # until the node was active
    drains: HistogramStatistics  # until it was gone
    deadlines_missed: Mapping[str, int]
    """`join`: activated though sidecars were missing; `publishers`: closed though some may still
    publish; `subscribers`: left though some were still subscribed."""


@attrs.frozen(slots=True)
class Redis:
    """A run of the node's Redis as the shell sees it."""

    run_id: str
    endpoint: Endpoint
    fence: FenceMode
    tls: bool = False


class Agent:
    """The machine of one node.

    Args:
        cluster: the fleet.
        node: the node's id.
        owner: name of this agent, made by `fanout.core.rival.owner_name`.
        started_ms: wall clock at the start; the first incarnation unless discovery knows a later.
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
        self._redis: Redis | None = None
        self._record: NodeRecord | None = None
        self._up = False
        self._told = False  # whether discovery was read after it took the joining record
        self._sidecars: Mapping[SidecarId, SidecarRecord] = {}
        self._others: tuple[NodeRecord, ...] = ()  # active nodes but this one
        self._next_heartbeat = inf
        self._deadline = inf  # of the present state
        self._end_deadline = inf
        self._leave_by = inf  # when to drain although no other node is active
        self._ended = False
        self._next_count = 0.0
        self._agreed = False  # whether the last count allowed what waits for it
        self._since = -inf
        self._lives = self._heartbeats = 0
        self._heartbeat_at = -inf
        self._joins = Histogram(LONG_SECONDS)
        self._drains = Histogram(LONG_SECONDS)
        self._deadlines_missed = Counter({"join": 0, "publishers": 0, "subscribers": 0})

    def statistics(self) -> AgentStatistics:
        """Return where the node stands, and what has passed."""
        waits = {NodeState.JOINING: "covered", NodeState.DRAINING: "stopped"}
        table = waits.get(self.state) if self.state is not None else None
        return AgentStatistics(
            state=self.state,
            state_since=self._since,
            vouched=self._up,
            lives=self._lives,
            heartbeats=self._heartbeats,
            heartbeat_at=self._heartbeat_at,
            sidecars=len(self._sidecars),
            missing=self._missing(table) if table is not None else (),
            joins=self._joins.statistics(),
            drains=self._drains.statistics(),
            deadlines_missed=MappingProxyType(dict(self._deadlines_missed)),
        )

    @property
    def state(self) -> NodeState | None:
        """The present state; None before Redis was first up."""
        return self._record.state if self._record is not None else None

    @property
    def is_last(self) -> bool:
        """Whether live sidecars would be without any active node if this one drained."""
        return self.state is NodeState.ACTIVE and not self._others and bool(self._sidecars)

    def redis_up(self, redis: Redis, now: float) -> tuple[Effect, ...]:
        """The node's Redis runs and delivers."""
        was_up, self._up, self._redis = self._up, True, redis
        record = self._record
        if record is None or record.state is NodeState.GONE or was_up:
            return self.advance(now)
        if record.run_id != redis.run_id:  # a new life, unless the old one is being ended
            return self._beat(now) if record.state is NodeState.DRAINING else self.advance(now)
        # What an earlier connection was to do may not have been done.
        is_open = record.state is NodeState.ACTIVE
        return (*self._arrange(record, is_open=is_open), *self._beat(now), *self.advance(now))

    def redis_down(self) -> None:
        """The node's Redis is lost or does not deliver: nothing vouches for it."""
        self._up = False
        self._next_heartbeat = inf

    def looked(
        self,
        sidecars: Mapping[SidecarId, SidecarRecord],
        nodes: Mapping[NodeId, NodeRecord],
        now: float,
    ) -> tuple[Effect, ...]:
        """Take who is present, after each read of discovery and whenever a lease ran out."""
        self._sidecars = dict(sidecars)
        self._others = tuple(
            record
            for name, record in nodes.items()
            if name != self._node and record.state is NodeState.ACTIVE
        )
        self._rival.looked(now)
        return self.advance(now)

    def told(self, incarnation: int, now: float) -> tuple[Effect, ...]:
        """Discovery took this life's joining record, and was read and looked at since."""
        if self._record is None or self._record.incarnation != incarnation:
            return ()
        self._told = True
        return self.advance(now)

    def found(self, instance: int, record: NodeRecord, now: float) -> tuple[Effect, ...]:
        """Take a record of this node id that a discovery instance has, whoever wrote it."""
        self._next_incarnation = max(self._next_incarnation, record.incarnation + 1)
        own = self._record
        if record.owner == self._owner or (own is not None and own.state is NodeState.GONE):
            return ()
        self._rival.found(instance, record, self._redis, now)
        if self._rival.lives and (own is None or self._rival.is_older):
            return (Superseded(record),)
        overtaken = own is not None and record.incarnation >= own.incarnation
        if overtaken and self.state is not NodeState.DRAINING and self._up:
            # Nobody would believe this life any more. If the other lives, it is younger and ends.
            return self._begin_life(now)
        return ()

    def counted(
        self, incarnation: int, here: int | None, most_elsewhere: int, now: float
    ) -> tuple[Effect, ...]:
        """Take how many sidecars are subscribed; `here` is None when the node did not tell."""
        record = self._record
        if record is None or record.incarnation != incarnation:
            return ()
        self._next_count = now + COUNT_INTERVAL_SECONDS
        if here is not None:
            joining = record.state is NodeState.JOINING
            self._agreed = here >= most_elsewhere if joining else here == 0
        return self.advance(now)

    def leave(self, now: float) -> tuple[Effect, ...]:
        """Drain as soon as another node is active, or nobody needs one, or at the drain deadline."""
        if self._leave_by == inf:
            self._leave_by = now + self._drain_timeout
        return self.advance(now)

    def drain(self, now: float) -> tuple[Effect, ...]:
        """Begin to leave now. Repeating it changes nothing."""
        record = self._record
        if record is None or record.state in (NodeState.DRAINING, NodeState.GONE):
            return ()
        self._end_deadline = now + self._drain_timeout / 2
        self._deadline = now + self._drain_timeout
        self._agreed, self._next_count = False, now
        return (*self._move(NodeState.DRAINING, now), *self.advance(now))

    def advance(self, now: float) -> tuple[Effect, ...]:
        """Do what is due."""
        effects: list[Effect] = []
        record, redis = self._record, self._redis
        if record is None or (redis is not None and record.run_id != redis.run_id):
            ending = record is not None and record.state in (NodeState.DRAINING, NodeState.GONE)
            if self._up and redis is not None and not ending and self._rival.clear_at <= now:
                effects.extend(self._begin_life(now))
        record = self._record
        if record is None or record.state is NodeState.GONE:
            return tuple(effects)
        if self._leave_by < inf and (not self.is_last or now >= self._leave_by):
            self._leave_by = inf
            effects.extend(self.drain(now))
        elif record.state is NodeState.JOINING and self._up:
            effects.extend(self._join(record, now))
        elif record.state is NodeState.DRAINING:
            effects.extend(self._leave(record, now))
        if self._up and now >= self._next_heartbeat:
            effects.extend(self._beat(now))
        return tuple(effects)

    def next_deadline(self) -> float:
        """Return when `advance` has something to do; infinity when idle."""
        record = self._record
        if record is None:
            return self._rival.clear_at if self._up else inf
        if record.state is NodeState.GONE:
            return inf
        due = min(self._next_heartbeat, self._leave_by)
        if record.state is NodeState.DRAINING:
            due = min(due, self._deadline if self._ended else self._end_deadline)
            due = min(due, self._next_count if self._ended and self._up else inf)
        elif record.state is NodeState.JOINING and self._told and self._up:
            counting = self._next_count if not self._missing("covered") else inf
            due = min(due, self._deadline, counting)
        return due

    def _begin_life(self, now: float) -> tuple[Effect, ...]:
        """Join, as a life that nobody knows yet."""
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
        self._told = self._agreed = False
        self._since = self._next_count = now
        self._lives += 1
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
        return (*self._door(is_open=is_open), SetIdentity(identity))

    def _door(self, *, is_open: bool) -> tuple[Effect, ...]:
        assert self._record is not None  # noqa: S101 - only asked of a node that has a record
        return (SetDoor(is_open),) if self._record.fence is FenceMode.ACL else ()

    def _join(self, record: NodeRecord, now: float) -> tuple[Effect, ...]:
        """Subscribers first: all known ones, and as many as elsewhere, or else the deadline."""
        if not self._told:
            return ()
        missing = self._missing("covered")
        late = now >= self._deadline
        if not late:
            if missing:
                return ()
            if self._others and not self._agreed:
                return self._count(record, now)
        self._deadlines_missed["join"] += late
        effects = (*self._door(is_open=True), *self._move(NodeState.ACTIVE, now))
        assert self._record is not None  # noqa: S101 - _move has just set it
        return (*effects, Activated(self._record, missing, late))

    def _leave(self, record: NodeRecord, now: float) -> tuple[Effect, ...]:
        """Publishers first, then END, then subscribers."""
        effects: list[Effect] = []
        if not self._ended and (not self._missing("stopped") or now >= self._end_deadline):
            self._deadlines_missed["publishers"] += bool(self._missing("stopped"))
            self._ended = True
            self._next_count = now
            if self._up:
                effects += self._door(is_open=False)
        if self._ended and (self._agreed or not self._up or now >= self._deadline):
            self._deadlines_missed["subscribers"] += self._up and not self._agreed
            effects.extend(self._move(NodeState.GONE, now))
            assert self._record is not None  # noqa: S101 - _move has just set it
            effects.append(Left(self._record))
        elif self._ended and (count := self._count(record, now)):
            # Again with every count: whoever has subscribed meanwhile did not read it.
            effects += [PublishEnd(record.incarnation), *count]
        return tuple(effects)

    def _count(self, record: NodeRecord, now: float) -> tuple[Effect, ...]:
        """Ask for a count, if none is under way."""
        if now < self._next_count:
            return ()
        self._next_count = inf
        others = self._others if record.state is NodeState.JOINING else ()
        return (CountSidecars(record.incarnation, others),)

    def _missing(self, table: str) -> tuple[SidecarId, ...]:
        """Return the live sidecars that do not list this life of the node in `table`.

        Those of another protocol are not among them: they could acknowledge nothing.
        """
        assert self._record is not None  # noqa: S101 - only asked of a node that has a record
        wanted = self._record.incarnation
        return tuple(
            record.sidecar
            for record in self._sidecars.values()
            if record.protocol_min <= PROTOCOL_VERSION <= record.protocol_max
            and getattr(record, table).get(self._node) != wanted
        )

    def _move(self, state: NodeState, now: float) -> tuple[Effect, ...]:
        record = self._record
        if record is None or state not in MOVES[record.state]:
            raise ValueError(f"no move from {record and record.state} to {state}")
        if record.state is NodeState.DRAINING:
            self._drains.add(now - self._since)
        elif state is NodeState.ACTIVE:
            self._joins.add(now - self._since)
        self._record, self._since = attrs.evolve(record, state=state), now
        return self._beat(now)

    def _beat(self, now: float) -> tuple[Effect, ...]:
        """Write the whole record with a new version."""
        assert self._record is not None  # noqa: S101 - a node without a record has no heartbeat
        self._record = attrs.evolve(self._record, version=self._record.version + 1)
        self._heartbeats += 1
        self._heartbeat_at = now
        self._next_heartbeat = now + self._heartbeat if self._up else inf
        return (WriteRecord(self._record),)
