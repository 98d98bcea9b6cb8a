"""Who is there: the union of what all discovery instances say.

Rules
- How records are merged is in `fanout.core.ledger`: news by (incarnation, version), states only
  forward, tombstones.
- A lease runs on this process's clock from the moment a new record was first seen, in whichever
  instance; clocks of two machines are never compared. Redis drops a record after one lease too,
  so a lease that ran out here means: missing or stale in every instance that can be read.
- Goodbye removes at once, on any instance's word. Silence removes by the lease, and where there
  is a data plane it must have been dead for `dead_seconds` as well: a node that delivers stays.
- While no instance can be read nobody expires and no tombstone ends, without a limit of time;
  when one is back everybody gets a fresh lease.
- When most members are silent at once it is discovery that is ill: expiry is held. Healthy
  members renew several times in a lease, so one silent for two thirds of its lease is late. If
  more than half are late when a lease runs out, nobody expires until one whole lease after the
  first renewal (whoever lives has renewed by then), or, when nobody renews, until three leases
  have passed: a majority may really be dead.
"""

from collections.abc import Iterator, Mapping
from itertools import chain
from math import inf

from fanout.core.ledger import (
    MOVES,
    NODES,
    SIDECARS,
    Effect,
    Entry,
    Ledger,
    NodeChanged,
    NodeConflict,
    NodeJoined,
    NodeLeft,
    SidecarChanged,
    SidecarJoined,
    SidecarLeft,
)
from fanout.values import NodeId, NodeRecord, SidecarId, SidecarRecord, Snapshot

__all__ = [
    "MOVES",
    "Effect",
    "Membership",
    "NodeChanged",
    "NodeConflict",
    "NodeJoined",
    "NodeLeft",
    "SidecarChanged",
    "SidecarJoined",
    "SidecarLeft",
]

TOMBSTONE_SECONDS = 600.0
"""How long the absent are remembered; much longer than any lease."""

DEAD_SECONDS = 5.0
"""How long the data plane must have been dead before discovery's silence removes a node."""

NODES_MAX = 256
SIDECARS_MAX = 65_536
MASS_MIN = 3
"""From this many members on, the silence of more than half is doubted."""
MASS_LEASES = 3.0
"""So many leases a doubted expiry is held when nobody renews."""
LATE = 2 / 3
"""The part of its lease after which a silent member is late."""


class Membership:
    """One process's view of its fleet.

    Args:
        cluster: records of other clusters are ignored.
        instances: number of discovery instances.
        data_plane: whether this process has links to the nodes and reports by `alive`; without
            them a node expires by its lease alone. Sidecars always do.
        dead_seconds: see `DEAD_SECONDS`.
        tombstone_seconds: see `TOMBSTONE_SECONDS`.
        nodes_max: more nodes are ignored.
        sidecars_max: more sidecars are ignored.

    """

    def __init__(
        self,
        cluster: str,
        *,
        instances: int,
        data_plane: bool = True,
        dead_seconds: float = DEAD_SECONDS,
        tombstone_seconds: float = TOMBSTONE_SECONDS,
        nodes_max: int = NODES_MAX,
        sidecars_max: int = SIDECARS_MAX,
    ) -> None:
        self._cluster = cluster
        self._data_plane = data_plane
        self._dead_seconds = dead_seconds
        self._read_at: dict[int, float] = {}  # instances that can be read -> when they last were
        self._last_read_at = -inf
        self._instances = instances
        self._nodes = Ledger(NODES, members_max=nodes_max, tombstone_seconds=tombstone_seconds)
        self._sidecars = Ledger(
            SIDECARS, members_max=sidecars_max, tombstone_seconds=tombstone_seconds
        )
        self._died: dict[NodeId, None] = {}  # reported dead, since the last input with a time
        self._held_since: float | None = None
        self._refilled_since = inf

    @property
    def frozen(self) -> bool:
        """Whether no discovery instance can be read."""
        return not self._read_at

    @property
    def nodes(self) -> Mapping[NodeId, NodeRecord]:
        """The present nodes; a live view."""
        return self._nodes.records

    @property
    def sidecars(self) -> Mapping[SidecarId, SidecarRecord]:
        """The present sidecars; a live view."""
        return self._sidecars.records

    def read_age(self, now: float) -> float:
        """Return the seconds since any instance was last read; infinity before the first."""
        return now - self._last_read_at

    def read(self, instance: int, snapshot: Snapshot, now: float) -> tuple[Effect, ...]:
        """Take what one instance knows.

        Raises:
            ValueError: there is no such instance.

        """
        self._check(instance)
        if self.frozen:
            self._thaw(now)
        self._read_at[instance] = self._last_read_at = now
        renewals = self._renewals
        effects: list[Effect] = []
        for node in snapshot.nodes:
            if node.cluster == self._cluster:
                effects.extend(self._nodes.observe(node, now))
        for sidecar in snapshot.sidecars:
            if sidecar.cluster == self._cluster:
                effects.extend(self._sidecars.observe(sidecar, now))
        if self._renewals > renewals:
            self._refilled_since = min(self._refilled_since, now)
        return (*effects, *self.advance(now))

    def unreachable(self, instance: int, now: float) -> tuple[Effect, ...]:
        """Take that one instance cannot be read; its silence removes nobody.

        Raises:
            ValueError: there is no such instance.

        """
        self._check(instance)
        self._read_at.pop(instance, None)
        return self.advance(now)

    def alive(self, node: NodeId, *, alive: bool) -> None:
        """Take what the own data plane says of a node: it delivers, or it does not.

        `dead_seconds` run from the next input that carries a time; `next_deadline` asks for one.
        """
        entry = self._nodes.entries.get(node)
        if entry is None:
            return
        if alive:
            entry.dead_since = None
            self._died.pop(node, None)
        elif entry.dead_since is None:
            self._died[node] = None

    def advance(self, now: float) -> tuple[Effect, ...]:
        """Let leases run out."""
        for node in self._died:
            if node in self._nodes.entries:
                self._nodes.entries[node].dead_since = now
        self._died.clear()
        if self.frozen:
            return ()
        self._nodes.forget(now)
        self._sidecars.forget(now)
        nodes = [key for key, entry in self._nodes.entries.items() if self._node_end(entry) <= now]
        sidecars = [key for key, entry in self._sidecars.entries.items() if entry.lease_end <= now]
        if not nodes and not sidecars:
            self._held_since = None
            return ()
        if self._holds(now):
            return ()
        self._held_since = None
        return (
            *(self._nodes.expire(key, now) for key in nodes),
            *(self._sidecars.expire(key, now) for key in sidecars),
        )

    def next_deadline(self) -> float:
        """Return when `advance` may have something to do; infinity when idle."""
        if self._died:
            return -inf
        if self.frozen:
            return inf
        nodes = map(self._node_end, self._nodes.entries.values())
        sidecars = (entry.lease_end for entry in self._sidecars.entries.values())
        due = min(chain(nodes, sidecars), default=inf)
        return due if self._held_since is None else max(due, self._hold_end())

    @property
    def _renewals(self) -> int:
        return self._nodes.renewals + self._sidecars.renewals

    def _check(self, instance: int) -> None:
        if not 0 <= instance < self._instances:
            raise ValueError(f"there is no instance {instance}")

    def _thaw(self, now: float) -> None:
        self._nodes.thaw(now)
        self._sidecars.thaw(now)
        self._held_since = None

    def _node_end(self, entry: Entry[NodeRecord]) -> float:
        """Return when a silent node is removed; infinity while it delivers."""
        if not self._data_plane:
            return entry.lease_end
        if entry.dead_since is None:
            return inf
        return max(entry.lease_end, entry.dead_since + self._dead_seconds)

    def _holds(self, now: float) -> bool:
        """Whether expiry is held because so many are silent that discovery must be ill."""
        if self._held_since is None:
            if not self._mostly_late(now):
                return False
            self._held_since, self._refilled_since = now, inf
        return now < self._hold_end()

    def _hold_end(self) -> float:
        assert self._held_since is not None  # noqa: S101 - only asked while expiry is held
        lease = max(entry.record.lease_seconds for entry in self._members())
        return min(self._held_since + MASS_LEASES * lease, self._refilled_since + lease)

    def _mostly_late(self, now: float) -> bool:
        late = members = 0
        for entry in self._members():
            members += 1
            late += now - entry.renewed_at >= LATE * entry.record.lease_seconds
        return members >= MASS_MIN and 2 * late > members

    def _members(self) -> Iterator[Entry[NodeRecord] | Entry[SidecarRecord]]:
        yield from self._nodes.entries.values()
        yield from self._sidecars.entries.values()
