"""Who is there: the union of what all discovery instances say.

Rules
- Every record has one writer, so no vote is needed: the highest (incarnation, version) wins.
- States only move forward within an incarnation; a node that said goodbye stays as a tombstone,
  so that an instance restored from an old dump cannot bring it back.
- A lease runs on this process's clock from the moment a new record was first seen; clocks of two
  machines are never compared.
- Goodbye removes at once. Silence removes only what no readable instance lists with a live lease,
  and of nodes only those whose data plane is dead too.
- While no instance can be read nobody expires; afterwards everybody gets a fresh lease.
- When most members fall silent in one turn it is discovery that is ill: expiry waits.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import attrs

from fanout.values import (
    NodeId,
    NodeRecord,
    NodeState,
    SidecarId,
    SidecarRecord,
    Snapshot,
)

ORDER = {state: place for place, state in enumerate(NodeState)}
"""Legal moves within an incarnation are those to the same or a later state."""

TOMBSTONE_SECONDS = 600.0
"""How long a goodbye is remembered; much longer than any lease."""

NODES_MAX = 256
SIDECARS_MAX = 65_536
MASS_MIN = 3
"""From this many members on, the loss of more than half in one turn is doubted."""
MASS_LEASES = 3.0
"""So many leases a doubted mass expiry is held back: a majority may really be dead."""


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
    """A node said goodbye (`left`) or fell silent (`expired`)."""

    record: NodeRecord
    reason: str


@attrs.frozen(slots=True)
class SidecarsChanged:
    """Sidecars came, went or told something new."""


Effect = NodeJoined | NodeChanged | NodeLeft | SidecarsChanged


@attrs.define(slots=True)
class _Entry:
    """A record and when it was last news."""

    record: NodeRecord | SidecarRecord
    renewed_at: float
    alive: bool = True  # what the own data plane says


class Membership:
    """One process's view of its fleet."""

    def __init__(self, cluster: str, *, instances: int, data_plane: bool = True) -> None:
        self._cluster = cluster
        self._data_plane = data_plane
        self._readable: set[int] = set()
        self._instances = instances
        self._nodes: dict[NodeId, _Entry] = {}
        self._sidecars: dict[SidecarId, _Entry] = {}
        self._tombstones: dict[NodeId, tuple[int, float]] = {}  # incarnation that left, until when
        self._doubted_since: float | None = None

    @property
    def frozen(self) -> bool:
        """Whether no discovery instance can be read."""
        return not self._readable

    @property
    def nodes(self) -> Mapping[NodeId, NodeRecord]:
        """The present nodes."""
        return {
            name: entry.record
            for name, entry in self._nodes.items()
            if isinstance(entry.record, NodeRecord)
        }

    @property
    def sidecars(self) -> Mapping[SidecarId, SidecarRecord]:
        """The present sidecars."""
        return MappingProxyType(
            {
                name: entry.record
                for name, entry in self._sidecars.items()
                if isinstance(entry.record, SidecarRecord)
            }
        )

    def read(self, instance: int, snapshot: Snapshot, now: float) -> tuple[Effect, ...]:
        """Take what one instance knows."""
        if not 0 <= instance < self._instances:
            raise ValueError(f"there is no instance {instance}")
        if not self._readable:
            self._refresh(now)
        self._readable.add(instance)
        effects: list[Effect] = []
        for record in snapshot.nodes:
            if record.cluster == self._cluster:
                effects.extend(self._observe_node(record, now))
        changed = [
            self._observe_sidecar(record, now)
            for record in snapshot.sidecars
            if record.cluster == self._cluster
        ]
        if any(changed):
            effects.append(SidecarsChanged())
        effects.extend(self.advance(now))
        return tuple(effects)

    def unreachable(self, instance: int, now: float) -> tuple[Effect, ...]:
        """Take that one instance cannot be read; its silence removes nobody."""
        self._readable.discard(instance)
        return self.advance(now)

    def alive(self, node: NodeId, *, alive: bool) -> None:
        """Take what the own data plane says of a node: it delivers, or it does not."""
        if node in self._nodes:
            self._nodes[node].alive = alive

    def advance(self, now: float) -> tuple[Effect, ...]:
        """Let leases run out."""
        self._tombstones = {node: mark for node, mark in self._tombstones.items() if mark[1] > now}
        if self.frozen:
            return ()
        silent = [name for name, entry in self._nodes.items() if self._lapsed(entry, now)]
        gone = [name for name, entry in self._sidecars.items() if self._lapsed(entry, now)]
        if self._doubts(silent, gone, now):
            return ()
        effects: list[Effect] = []
        for name in silent:
            record = self._nodes.pop(name).record
            assert isinstance(record, NodeRecord)  # noqa: S101 - the table holds nothing else
            effects.append(NodeLeft(record, "expired"))
        for sidecar in gone:
            del self._sidecars[sidecar]
        if gone:
            effects.append(SidecarsChanged())
        return tuple(effects)

    def next_deadline(self) -> float:
        """Return when `advance` may have something to do; infinity when idle."""
        if self.frozen:
            return float("inf")
        if self._doubted_since is not None:
            return self._doubted_since + MASS_LEASES * self._longest_lease()
        entries: Iterable[_Entry] = (*self._nodes.values(), *self._sidecars.values())
        return min(
            (self._lease_end(entry) for entry in entries if not self._kept(entry)),
            default=float("inf"),
        )

    def _refresh(self, now: float) -> None:
        """Give everybody a fresh lease: while frozen nobody could renew."""
        for entry in (*self._nodes.values(), *self._sidecars.values()):
            entry.renewed_at = now
        self._doubted_since = None

    def _observe_node(self, record: NodeRecord, now: float) -> list[Effect]:
        left = self._tombstones.get(record.node)
        if left is not None and record.incarnation <= left[0]:
            return []  # an old dump, or the goodbye seen again
        entry = self._nodes.get(record.node)
        if entry is None:
            if record.state is NodeState.GONE:
                self._bury(record, now)
                return []
            if len(self._nodes) >= NODES_MAX:
                return []
            self._nodes[record.node] = _Entry(record, now)
            return [NodeJoined(record)]
        before = entry.record
        assert isinstance(before, NodeRecord)  # noqa: S101 - the table holds nothing else
        if record.owner != before.owner and record.incarnation == before.incarnation:
            return []  # two agents with one node id: the one seen first is believed
        if record.stamp <= before.stamp:
            return []
        if record.incarnation == before.incarnation and ORDER[record.state] < ORDER[before.state]:
            return []
        if record.state is NodeState.GONE:
            self._bury(record, now)
            del self._nodes[record.node]
            return [NodeLeft(record, "left")]
        entry.record, entry.renewed_at = record, now
        return [NodeChanged(record, before)]

    def _bury(self, record: NodeRecord, now: float) -> None:
        self._tombstones[record.node] = (record.incarnation, now + TOMBSTONE_SECONDS)

    def _observe_sidecar(self, record: SidecarRecord, now: float) -> bool:
        entry = self._sidecars.get(record.sidecar)
        if record.gone:
            known = entry is not None and record.incarnation >= entry.record.incarnation
            if known:
                del self._sidecars[record.sidecar]
            return known
        if entry is None:
            if len(self._sidecars) >= SIDECARS_MAX:
                return False
            self._sidecars[record.sidecar] = _Entry(record, now)
            return True
        if record.stamp <= entry.record.stamp:
            return False
        entry.record, entry.renewed_at = record, now
        return True

    @staticmethod
    def _lease_end(entry: _Entry) -> float:
        return entry.renewed_at + entry.record.lease_seconds

    def _kept(self, entry: _Entry) -> bool:
        """Whether a node is kept however long discovery is silent about it: it delivers."""
        return self._data_plane and entry.alive and isinstance(entry.record, NodeRecord)

    def _lapsed(self, entry: _Entry, now: float) -> bool:
        return now >= self._lease_end(entry) and not self._kept(entry)

    def _doubts(self, silent: list[NodeId], gone: list[SidecarId], now: float) -> bool:
        """Whether the loss of so many at once is rather an illness of discovery."""
        members = len(self._nodes) + len(self._sidecars)
        lost = len(silent) + len(gone)
        if members < MASS_MIN or 2 * lost <= members:
            self._doubted_since = None
            return False
        if self._doubted_since is None:
            self._doubted_since = now
        return now < self._doubted_since + MASS_LEASES * self._longest_lease()

    def _longest_lease(self) -> float:
        entries = (*self._nodes.values(), *self._sidecars.values())
        return max((entry.record.lease_seconds for entry in entries), default=0.0)
