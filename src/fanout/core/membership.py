"""Membership: the nodes and sidecars of a fleet, from discovery and the data plane.

The rules for records of any kind are in `fanout.core.view`. With a data plane, an expired lease
removes a node only if the node has also been dead for `dead_seconds`: a node that delivers stays.
"""

from collections.abc import Iterable, Mapping
from itertools import chain
from math import inf
from typing import Any

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
from fanout.core.view import TOMBSTONE_SECONDS, View
from fanout.values.names import NodeId, SidecarId
from fanout.values.records import NodeRecord, SidecarRecord, Snapshot

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

DEAD_SECONDS = 5.0
"""How long a node must have been dead in the data plane before an expired lease removes it."""

NODES_MAX = 256
SIDECARS_MAX = 65_536


class Membership(View[Effect]):
    """One process's view of its fleet.

    Args:
        cluster: records of other clusters are ignored.
        instances: the number of discovery instances.
        data_plane: whether this process has links to the nodes and reports their state with
            `alive`. Without, a node expires by its lease alone, as sidecars always do.
        dead_seconds: see `DEAD_SECONDS`.
        tombstone_seconds: see `TOMBSTONE_SECONDS`.
        nodes_max: nodes beyond this number are ignored.
        sidecars_max: sidecars beyond this number are ignored.

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
        nodes = Ledger(NODES, members_max=nodes_max, tombstone_seconds=tombstone_seconds)
        sidecars = Ledger(SIDECARS, members_max=sidecars_max, tombstone_seconds=tombstone_seconds)
        super().__init__(cluster, {NodeRecord: nodes, SidecarRecord: sidecars}, instances=instances)
        self._nodes = nodes
        self._sidecars = sidecars
        self._data_plane = data_plane
        self._dead_seconds = dead_seconds
        self._died: dict[NodeId, None] = {}  # reported dead, since the last input with a time

    @property
    def nodes(self) -> Mapping[NodeId, NodeRecord]:
        """The present nodes; a live view."""
        return self._nodes.records

    @property
    def absent(self) -> Iterable[NodeRecord]:
        """The last records of the nodes that left or expired and are still remembered."""
        return self._nodes.absent

    @property
    def sidecars(self) -> Mapping[SidecarId, SidecarRecord]:
        """The present sidecars; a live view."""
        return self._sidecars.records

    def read(self, instance: int, snapshot: Snapshot, now: float) -> tuple[Effect, ...]:
        """Merge the snapshot of one instance; return the changes.

        Raises:
            ValueError: the instance does not exist.

        """
        return self.take(instance, chain(snapshot.nodes, snapshot.sidecars), now)

    def alive(self, node: NodeId, *, alive: bool) -> None:
        """Record whether a node delivers messages, as the data plane reports.

        `dead_seconds` run from the next call with a time; `next_deadline` is due at once.
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
        """Remove the members whose leases ran out; return the changes."""
        for node in self._died:
            if node in self._nodes.entries:
                self._nodes.entries[node].dead_since = now
        self._died.clear()
        return super().advance(now)

    def next_deadline(self) -> float:
        """Return the time at which to call `advance`; infinity when idle."""
        return -inf if self._died else super().next_deadline()

    def _end(self, entry: Entry[Any]) -> float:
        """Return when to remove a silent member; infinity for a node while it delivers."""
        if not self._data_plane or isinstance(entry.record, SidecarRecord):
            return entry.lease_end
        if entry.dead_since is None:
            return inf
        return max(entry.lease_end, entry.dead_since + self._dead_seconds)
