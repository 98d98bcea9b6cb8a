"""Which nodes the sidecars of a fleet hear and cannot hear, and where to publish for that.

A sidecar that cannot hear a node misses what others publish there, and only it can notice. It says
so, and everybody publishes on the nodes that the fewest cannot hear. A sidecar that is deaf to all
nodes adds the same to each and changes nothing: it cannot take the fleet's nodes away.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from types import MappingProxyType

from fanout.values.names import NodeId, SidecarId

Incarnations = Mapping[NodeId, int]
"""Nodes in their incarnations, each by its incarnation."""


class IncarnationReports:
    """What each sidecar says of which incarnations, and how many say it of each; the last word counts."""

    def __init__(self) -> None:
        self._said: dict[SidecarId, dict[NodeId, int]] = {}
        # Kept, not counted anew for each word: after a crash every sidecar says one.
        self._counts: Counter[tuple[NodeId, int]] = Counter()
        self.counts: Mapping[tuple[NodeId, int], int] = MappingProxyType(self._counts)

    def tell(self, sidecar: SidecarId, incarnations: Incarnations) -> bool:
        """Take a word; return whether that is news."""
        before = self._said.get(sidecar, {})
        if incarnations == before:
            return False
        for incarnation in incarnations.items():
            self._counts[incarnation] += 1
        for incarnation in before.items():
            self._counts[incarnation] -= 1
            if not self._counts[incarnation]:
                del self._counts[incarnation]
        if incarnations:
            self._said[sidecar] = dict(incarnations)
        else:
            del self._said[sidecar]
        return True


class Hearing:
    """What the other sidecars said."""

    def __init__(self) -> None:
        self._deaf = IncarnationReports()
        self._covered = IncarnationReports()

    def tell(self, sidecar: SidecarId, deaf: Incarnations) -> bool:
        """Take which incarnations a sidecar cannot hear; return whether that is news."""
        return self._deaf.tell(sidecar, deaf)

    def tell_covered(self, sidecar: SidecarId, covered: Incarnations) -> None:
        """Take which incarnations a sidecar hears."""
        self._covered.tell(sidecar, covered)

    def forget(self, sidecar: SidecarId) -> None:
        """A sidecar is gone."""
        self._deaf.tell(sidecar, {})
        self._covered.tell(sidecar, {})

    def count(self, node: NodeId, incarnation: int) -> int:
        """Return how many others cannot hear this incarnation of a node."""
        return self._deaf.counts.get((node, incarnation), 0)

    def is_heard(self, node: NodeId, incarnation: int) -> bool:
        """Whether another sidecar hears this incarnation of a node."""
        return (node, incarnation) in self._covered.counts

    def unknown(self, known: Collection[NodeId]) -> dict[NodeId, int]:
        """Return what others hear of nodes that are not `known`, in the latest of their incarnations."""
        incarnations = sorted(
            incarnation for incarnation in self._covered.counts if incarnation[0] not in known
        )
        return dict(incarnations)

    def best(self, nodes: Incarnations, unheard: Collection[NodeId]) -> frozenset[NodeId]:
        """Return those of `nodes`, given with their incarnations, that the fewest cannot hear.

        `unheard` are those that this sidecar cannot hear itself.
        """
        counts = {
            name: self.count(name, incarnation) + (name in unheard)
            for name, incarnation in nodes.items()
        }
        fewest = min(counts.values(), default=0)
        return frozenset(name for name, count in counts.items() if count == fewest)
