"""Who is there: the nodes and sidecars of a fleet, by what discovery and the data plane say.

What holds for records of any kind is in `fanout.core.view`. Where there is a data plane, silence
removes a node only when it has been dead for `dead_seconds` as well: a node that delivers stays.
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
"""How long the data plane must have been dead before discovery's silence removes a node."""

NODES_MAX = 256
SIDECARS_MAX = 65_536


class Membership(View[Effect]):
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
        """Take what one instance knows.

        Raises:
            ValueError: there is no such instance.

        """
        return self.take(instance, chain(snapshot.nodes, snapshot.sidecars), now)

    def alive(self, node: NodeId, *, alive: bool) -> None:
        """Take what the data plane says of a node: it delivers to somebody, or it does not.

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
        return super().advance(now)

    def next_deadline(self) -> float:
        """Return when `advance` may have something to do; infinity when idle."""
        return -inf if self._died else super().next_deadline()

    def _end(self, entry: Entry[Any]) -> float:
        """Return when a silent member is removed; infinity for a node while it delivers."""
        if not self._data_plane or isinstance(entry.record, SidecarRecord):
            return entry.lease_end
        if entry.dead_since is None:
            return inf
        return max(entry.lease_end, entry.dead_since + self._dead_seconds)
