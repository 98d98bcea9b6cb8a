"""Merges the records of one kind, such as nodes, from many discovery instances.

Every record has one writer, so there is no vote: the highest (incarnation, version) wins, and
within an incarnation a record may only move forward. The last record of a member is kept for some
time after it left or expired (a tombstone), so that an instance that comes back with old data
cannot bring the member back. Only a newer record can.
"""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Generic, Literal, TypeVar

import attrs

from fanout.values.names import NodeId, SidecarId
from fanout.values.records import NodeRecord, NodeState, Record, SidecarRecord

MOVES = {
    NodeState.JOINING: {
        NodeState.JOINING,
        NodeState.ACTIVE,
        NodeState.DRAINING,
        NodeState.GONE,
    },
    NodeState.ACTIVE: {NodeState.ACTIVE, NodeState.DRAINING, NodeState.GONE},
    NodeState.DRAINING: {NodeState.DRAINING, NodeState.GONE},
    NodeState.GONE: set[NodeState](),
}
"""Legal moves within an incarnation, as observed: states in between may have been missed."""

Reason = Literal["left", "expired"]


@attrs.frozen(slots=True)
class NodeJoined:
    """A node is new to this view."""

    record: NodeRecord


@attrs.frozen(slots=True)
class NodeChanged:
    """A newer record of a known node."""

    record: NodeRecord
    before: NodeRecord


@attrs.frozen(slots=True)
class NodeLeft:
    """A node wrote its goodbye (`left`) or its lease ran out (`expired`)."""

    record: NodeRecord
    reason: Reason


@attrs.frozen(slots=True)
class NodeConflict:
    """Two agents write one incarnation of a node; `record` is kept, `rival` ignored. Reported once."""

    record: NodeRecord
    rival: NodeRecord


@attrs.frozen(slots=True)
class SidecarJoined:
    """A sidecar is new to this view."""

    record: SidecarRecord


@attrs.frozen(slots=True)
class SidecarChanged:
    """A newer record of a known sidecar."""

    record: SidecarRecord
    before: SidecarRecord


@attrs.frozen(slots=True)
class SidecarLeft:
    """A sidecar wrote its goodbye (`left`) or its lease ran out (`expired`)."""

    record: SidecarRecord
    reason: Reason


NodeEffect = NodeJoined | NodeChanged | NodeLeft | NodeConflict
SidecarEffect = SidecarJoined | SidecarChanged | SidecarLeft
Effect = NodeEffect | SidecarEffect


K = TypeVar("K")
R = TypeVar("R", bound=Record)
_E = TypeVar("_E")


@attrs.frozen(slots=True)
class Kind(Generic[K, R, _E]):
    """How to identify and compare records of one kind, and how to report their changes."""

    key: Callable[[R], K]
    follows: Callable[[R, R], bool]  # (newer, older of the same incarnation): a legal move?
    owner: Callable[[R], str]
    joined: Callable[[R], _E]
    changed: Callable[[R, R], _E]
    left: Callable[[R, Reason], _E]
    conflict: Callable[[R, R], _E]


@attrs.define(slots=True)
class Entry(Generic[R]):
    """A present member."""

    record: R
    renewed_at: float
    dead_since: float | None = None  # as reported by the data plane
    conflict: int = -1  # incarnation in which a second owner was reported

    @property
    def lease_end(self) -> float:
        """The time at which the lease of the record runs out."""
        return self.renewed_at + self.record.lease_seconds


class Ledger(Generic[K, R, _E]):
    """The present members of one kind, at most `members_max`, and tombstones of absent ones."""

    def __init__(self, kind: Kind[K, R, _E], *, members_max: int, tombstone_seconds: float) -> None:
        self._kind = kind
        self._members_max = members_max
        self._tombstone_seconds = tombstone_seconds
        self._records: dict[K, R] = {}
        self._absent: dict[K, tuple[R, float]] = {}  # last record, until when; oldest first
        self.entries: dict[K, Entry[R]] = {}
        self.records: Mapping[K, R] = MappingProxyType(self._records)
        self.renewals = 0
        """Newer records of known members since the start."""

    @property
    def absent(self) -> Iterable[R]:
        """The last records of members that left or expired, until their tombstones end."""
        return (record for record, _ in self._absent.values())

    def observe(self, record: R, now: float) -> tuple[_E, ...]:
        """Merge a record, new or old; return the changes."""
        kind = self._kind
        key = kind.key(record)
        entry = self.entries.get(key)
        if entry is None:
            return self._admit(key, record, now)
        before = entry.record
        same_incarnation = record.incarnation == before.incarnation
        contested = same_incarnation and kind.owner(record) != kind.owner(before)
        if contested and now < entry.lease_end:
            return self._conflict(entry, record)
        if not self._is_news(record, before):
            return ()
        if record.gone:
            self._remove(key, record, now)
            return (kind.left(record, "left"),)
        entry.record = self._records[key] = record
        entry.renewed_at = now
        self.renewals += 1
        return (kind.changed(record, before),)

    def expire(self, key: K, now: float) -> _E:
        """Remove a member whose lease ran out; return the change."""
        record = self._records[key]
        self._remove(key, record, now)
        return self._kind.left(record, "expired")

    def forget(self, now: float) -> None:
        """Drop the tombstones that have ended."""
        while self._absent:
            key = next(iter(self._absent))
            if now < self._absent[key][1]:
                return
            del self._absent[key]

    def thaw(self, now: float) -> None:
        """Restart every lease and tombstone, after a time without any readable instance."""
        for entry in self.entries.values():
            entry.renewed_at = now
        until = now + self._tombstone_seconds
        self._absent = {key: (record, until) for key, (record, _) in self._absent.items()}

    def _admit(self, key: K, record: R, now: float) -> tuple[_E, ...]:
        """Merge the record of a member that is not present."""
        past = self._absent.get(key)
        if past is not None and not self._is_news(record, past[0]):
            return ()
        if record.gone:
            self._remember(key, record, now)
            return ()
        if len(self.entries) >= self._members_max:
            return ()
        self._absent.pop(key, None)
        self.entries[key] = Entry(record, now)
        self._records[key] = record
        return (self._kind.joined(record),)

    def _is_news(self, record: R, before: R) -> bool:
        if record.stamp <= before.stamp:
            return False
        return record.incarnation > before.incarnation or self._kind.follows(record, before)

    def _conflict(self, entry: Entry[R], rival: R) -> tuple[_E, ...]:
        """Keep the owner seen first; report the conflict once for each incarnation."""
        if entry.conflict == rival.incarnation:
            return ()
        entry.conflict = rival.incarnation
        return (self._kind.conflict(entry.record, rival),)

    def _remove(self, key: K, last: R, now: float) -> None:
        del self.entries[key], self._records[key]
        self._remember(key, last, now)

    def _remember(self, key: K, last: R, now: float) -> None:
        self._absent.pop(key, None)
        self._absent[key] = (last, now + self._tombstone_seconds)
        if len(self._absent) > self._members_max:
            del self._absent[next(iter(self._absent))]


def _no_conflict(record: Record, _rival: Record) -> Any:
    raise AssertionError(f"{record.id} has no owner and so no conflict")


NODES: Kind[NodeId, NodeRecord, NodeEffect] = Kind(
    key=lambda record: record.node,
    follows=lambda record, before: record.state in MOVES[before.state],
    owner=lambda record: record.owner,
    joined=NodeJoined,
    changed=NodeChanged,
    left=NodeLeft,
    conflict=NodeConflict,
)
SIDECARS: Kind[SidecarId, SidecarRecord, SidecarEffect] = Kind(
    key=lambda record: record.sidecar,
    follows=lambda _record, before: not before.gone,
    owner=lambda _record: "",
    joined=SidecarJoined,
    changed=SidecarChanged,
    left=SidecarLeft,
    conflict=_no_conflict,
)
FURTHER: Kind[str, Any, Record] = Kind(
    key=lambda record: record.id,
    follows=lambda _record, before: not before.gone,
    owner=lambda _record: "",
    joined=lambda record: record,
    changed=lambda record, _before: record,
    left=lambda record, _reason: record,
    conflict=_no_conflict,
)
"""Any other kind of record; a change is reported as the record itself."""
