"""Which nodes each sidecar of a fleet can and cannot hear, and where to publish for that reason.

A sidecar that cannot hear a node misses the messages published there, and only that sidecar can
detect it. It reports the node as unheard, and all sidecars publish on the nodes that are unheard
by the fewest. A sidecar that cannot hear any node adds one to the count of each, which changes
nothing: it cannot stop the fleet from publishing.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType

from fanout.values.names import NodeId, SidecarId

Incarnations = Mapping[NodeId, int]
"""Node ids, each with an incarnation."""


class IncarnationReports:
    """The latest report of each sidecar about incarnations, and how many reports contain each."""

    def __init__(self) -> None:
        self._reports: dict[SidecarId, dict[NodeId, int]] = {}
        # Updated, not recounted for each report: after a crash every sidecar sends one.
        self._counts: Counter[tuple[NodeId, int]] = Counter()
        self.counts: Mapping[tuple[NodeId, int], int] = MappingProxyType(self._counts)

    def of(self, sidecar: SidecarId) -> Incarnations:
        """Return the latest report of a sidecar; empty if there is none."""
        return self._reports.get(sidecar, {})

    def items(self) -> Iterable[tuple[SidecarId, Incarnations]]:
        """Return the latest report of each sidecar."""
        return self._reports.items()

    def tell(self, sidecar: SidecarId, incarnations: Incarnations) -> bool:
        """Record the report of a sidecar; return whether it changed."""
        before = self._reports.get(sidecar, {})
        if incarnations == before:
            return False
        for incarnation in incarnations.items():
            self._counts[incarnation] += 1
        for incarnation in before.items():
            self._counts[incarnation] -= 1
            if not self._counts[incarnation]:
                del self._counts[incarnation]
        if incarnations:
            self._reports[sidecar] = dict(incarnations)
        else:
            del self._reports[sidecar]
        return True


class Hearing:
    """The reports of the other sidecars."""

    def __init__(self) -> None:
        self._unheard = IncarnationReports()
        self._covered = IncarnationReports()

    def tell(self, sidecar: SidecarId, deaf: Incarnations) -> bool:
        """Record the incarnations that a sidecar cannot hear; return whether they changed."""
        return self._unheard.tell(sidecar, deaf)

    def tell_covered(self, sidecar: SidecarId, covered: Incarnations) -> None:
        """Record the incarnations that a sidecar covers."""
        self._covered.tell(sidecar, covered)

    def forget(self, sidecar: SidecarId) -> None:
        """Drop the reports of a sidecar."""
        self._unheard.tell(sidecar, {})
        self._covered.tell(sidecar, {})

    def count(self, node: NodeId, incarnation: int) -> int:
        """Return how many other sidecars cannot hear this incarnation of a node."""
        return self._unheard.counts.get((node, incarnation), 0)

    def hearers(self, node: NodeId, incarnation: int) -> int:
        """Return how many other sidecars cover this incarnation of a node and can hear it."""
        return sum(
            covered.get(node) == incarnation and self._unheard.of(sidecar).get(node) != incarnation
            for sidecar, covered in self._covered.items()
        )

    def is_heard(self, node: NodeId, incarnation: int) -> bool:
        """Return whether another sidecar covers this incarnation of a node."""
        return (node, incarnation) in self._covered.counts

    def unknown(self, known: Collection[NodeId]) -> dict[NodeId, int]:
        """Return the nodes that others cover and that are not `known`, in their latest incarnation."""
        incarnations = sorted(
            incarnation for incarnation in self._covered.counts if incarnation[0] not in known
        )
        return dict(incarnations)

    def best(self, nodes: Incarnations, unheard: Collection[NodeId]) -> frozenset[NodeId]:
        """Return those of `nodes` that the fewest sidecars cannot hear.

        `unheard` are the nodes that this sidecar cannot hear.
        """
        counts = {
            name: self.count(name, incarnation) + (name in unheard)
            for name, incarnation in nodes.items()
        }
        fewest = min(counts.values(), default=0)
        return frozenset(name for name, count in counts.items() if count == fewest)
