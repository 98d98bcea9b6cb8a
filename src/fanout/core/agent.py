"""What a node's agent tells discovery, and when its node may carry publishes.

A heartbeat vouches for delivery: it is written only while the node's Redis is up and returns what
is published on it. A Redis that comes back as another process is a new life: it joins anew, so
that nobody publishes on it before everybody has subscribed again.
"""

from collections.abc import Mapping

import attrs

from fanout.values import (
    PROTOCOL_VERSION,
    Endpoint,
    Identity,
    NodeId,
    NodeRecord,
    NodeState,
    SidecarId,
    SidecarRecord,
)

MOVES = {
    NodeState.JOINING: {NodeState.ACTIVE, NodeState.DRAINING},
    NodeState.ACTIVE: {NodeState.DRAINING},
    NodeState.DRAINING: {NodeState.GONE},
    NodeState.GONE: set(),
}
"""Legal moves within one incarnation."""


@attrs.frozen(slots=True)
class SetIdentity:
    """Write the identity key on the node; before anything else is said about it."""

    identity: Identity


@attrs.frozen(slots=True)
class WriteRecord:
    """Write the record to discovery."""

    record: NodeRecord


@attrs.frozen(slots=True)
class Activated:
    """The node carries publishes now; `missing` sidecars had not subscribed by the deadline."""

    record: NodeRecord
    missing: tuple[SidecarId, ...]


@attrs.frozen(slots=True)
class PublishEnd:
    """Publish the node's last message."""

    incarnation: int


@attrs.frozen(slots=True)
class Left:
    """The goodbye is written; the agent may end."""

    record: NodeRecord


Effect = SetIdentity | WriteRecord | Activated | PublishEnd | Left


class Agent:
    """The machine of one node."""

    def __init__(
        self,
        *,
        cluster: str,
        node: NodeId,
        owner: str,
        started_ms: int,
        heartbeat_interval_seconds: float,
        lease_seconds: float,
        join_timeout_seconds: float,
        drain_timeout_seconds: float,
    ) -> None:
        self._cluster = cluster
        self._node = node
        self._owner = owner
        self._incarnation_floor = started_ms
        self._heartbeat = heartbeat_interval_seconds
        self._lease = lease_seconds
        self._join_timeout = join_timeout_seconds
        self._drain_timeout = drain_timeout_seconds
        self._record: NodeRecord | None = None
        self._up = False
        self._looked = False  # whether discovery was read after the joining record was written
        self._sidecars: Mapping[SidecarId, SidecarRecord] = {}
        self._next_heartbeat = float("inf")
        self._deadline = float("inf")  # of the present state
        self._end_deadline = float("inf")
        self._ended = False

    @property
    def state(self) -> NodeState | None:
        """The present state; None before Redis was first up."""
        return self._record.state if self._record is not None else None

    def outdone(self, incarnation: int) -> None:
        """Take an incarnation of this node id seen in discovery; the next one will be higher."""
        self._incarnation_floor = max(self._incarnation_floor, incarnation + 1)

    def redis_up(self, run_id: str, endpoint: Endpoint, now: float) -> tuple[Effect, ...]:
        """The node's Redis runs and delivers."""
        record = self._record
        if record is not None and record.state is NodeState.GONE:
            return ()  # said goodbye: only another agent may bring the node back
        self._up = True
        if record is not None and (record.run_id == run_id or record.state is NodeState.DRAINING):
            return self._beat(now) if self._next_heartbeat == float("inf") else ()
        incarnation = self._incarnation_floor
        self._incarnation_floor += 1
        self._record = NodeRecord(
            cluster=self._cluster,
            node=self._node,
            incarnation=incarnation,
            version=0,
            owner=self._owner,
            state=NodeState.JOINING,
            endpoint=endpoint,
            run_id=run_id,
            lease_seconds=self._lease,
        )
        self._looked = False
        self._deadline = now + self._join_timeout
        identity = Identity(
            cluster=self._cluster, node=self._node, incarnation=incarnation, run_id=run_id
        )
        return (SetIdentity(identity), *self._beat(now))

    def redis_down(self) -> None:
        """The node's Redis is lost or does not deliver: nothing vouches for it."""
        self._up = False
        self._next_heartbeat = float("inf")

    def looked(self, sidecars: Mapping[SidecarId, SidecarRecord], now: float) -> tuple[Effect, ...]:
        """Discovery was read; these sidecars live."""
        self._sidecars = dict(sidecars)
        self._looked = True
        return self.advance(now)

    def drain(self, now: float) -> tuple[Effect, ...]:
        """Begin to leave. Repeating it changes nothing."""
        record = self._record
        if record is None or record.state in (NodeState.DRAINING, NodeState.GONE):
            return ()
        self._end_deadline = now + self._drain_timeout / 2
        self._deadline = now + self._drain_timeout
        return (*self._move(NodeState.DRAINING, now), *self.advance(now))

    def advance(self, now: float) -> tuple[Effect, ...]:
        """Do what is due."""
        effects: list[Effect] = []
        record = self._record
        if record is None or record.state is NodeState.GONE:
            return ()
        if record.state is NodeState.JOINING and self._up:
            missing = self._missing("covered")
            if self._looked and (not missing or now >= self._deadline):
                effects.extend(self._move(NodeState.ACTIVE, now))
                assert self._record is not None  # noqa: S101 - _move has just set it
                effects.append(Activated(self._record, missing))
        elif record.state is NodeState.DRAINING:
            effects.extend(self._leave(record, now))
        if self._up and now >= self._next_heartbeat:
            effects.extend(self._beat(now))
        return tuple(effects)

    def next_deadline(self) -> float:
        """Return when `advance` has something to do; infinity when idle."""
        record = self._record
        if record is None or record.state is NodeState.GONE:
            return float("inf")
        due = self._next_heartbeat
        if record.state is NodeState.DRAINING:
            due = min(due, self._deadline if self._ended else self._end_deadline)
        elif record.state is NodeState.JOINING and self._looked and self._up:
            due = min(due, self._deadline)
        return due

    def _leave(self, record: NodeRecord, now: float) -> tuple[Effect, ...]:
        """Publishers first, then END, then subscribers."""
        effects: list[Effect] = []
        if not self._ended and (not self._missing("stopped") or now >= self._end_deadline):
            self._ended = True
            if self._up:
                effects.append(PublishEnd(record.incarnation))
        if self._ended and (not self._holding() or not self._up or now >= self._deadline):
            effects.extend(self._move(NodeState.GONE, now))
            assert self._record is not None  # noqa: S101 - _move has just set it
            effects.append(Left(self._record))
        return tuple(effects)

    def _live(self) -> list[SidecarRecord]:
        """Return the sidecars that speak our protocol; others cannot acknowledge anything."""
        return [
            record
            for record in self._sidecars.values()
            if record.protocol_min <= PROTOCOL_VERSION <= record.protocol_max
        ]

    def _missing(self, table: str) -> tuple[SidecarId, ...]:
        """Return the live sidecars that do not list this life of the node in `table`."""
        assert self._record is not None  # noqa: S101 - only asked of a node that has a record
        wanted = self._record.incarnation
        return tuple(
            record.sidecar
            for record in self._live()
            if getattr(record, table).get(self._node) != wanted
        )

    def _holding(self) -> bool:
        """Whether a live sidecar is still subscribed."""
        assert self._record is not None  # noqa: S101 - only asked of a node that has a record
        wanted = self._record.incarnation
        return any(record.covered.get(self._node) == wanted for record in self._live())

    def _move(self, state: NodeState, now: float) -> tuple[Effect, ...]:
        record = self._record
        if record is None or state not in MOVES[record.state]:
            raise ValueError(f"no move from {record and record.state} to {state}")
        self._record = attrs.evolve(record, state=state)
        return self._beat(now)

    def _beat(self, now: float) -> tuple[Effect, ...]:
        """Write the whole record with a new version."""
        assert self._record is not None  # noqa: S101 - a node without a record has no heartbeat
        self._record = attrs.evolve(self._record, version=self._record.version + 1)
        self._next_heartbeat = now + self._heartbeat if self._up else float("inf")
        return (WriteRecord(self._record),)
