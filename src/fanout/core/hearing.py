"""Which nodes the sidecars of a fleet hear and cannot hear, and where to publish for that.

A sidecar that cannot hear a node misses what others publish there, and only it can notice. It says
so, and everybody publishes on the nodes that the fewest cannot hear. A sidecar that is deaf to all
nodes adds the same to each and changes nothing: it cannot take the fleet's nodes away.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from types import MappingProxyType

from fanout.values.names import NodeId, SidecarId

Lives = Mapping[NodeId, int]
"""Nodes in their lives, each by its incarnation."""


class Words:
    """What each sidecar says of which lives, and how many say it of each; the last word counts."""

    def __init__(self) -> None:
        self._said: dict[SidecarId, dict[NodeId, int]] = {}
        # Kept, not counted anew for each word: after a crash every sidecar says one.
        self._counts: Counter[tuple[NodeId, int]] = Counter()
        self.counts: Mapping[tuple[NodeId, int], int] = MappingProxyType(self._counts)

    def tell(self, sidecar: SidecarId, lives: Lives) -> bool:
        """Take a word; return whether that is news."""
        before = self._said.get(sidecar, {})
        if lives == before:
            return False
        for life in lives.items():
            self._counts[life] += 1
        for life in before.items():
            self._counts[life] -= 1
            if not self._counts[life]:
                del self._counts[life]
        if lives:
            self._said[sidecar] = dict(lives)
        else:
            del self._said[sidecar]
        return True


class Hearing:
    """What the other sidecars said."""

    def __init__(self) -> None:
        self._deaf = Words()
        self._covered = Words()

    def tell(self, sidecar: SidecarId, deaf: Lives) -> bool:
        """Take which lives a sidecar cannot hear; return whether that is news."""
        return self._deaf.tell(sidecar, deaf)

    def tell_covered(self, sidecar: SidecarId, covered: Lives) -> None:
        """Take which lives a sidecar hears."""
        self._covered.tell(sidecar, covered)

    def forget(self, sidecar: SidecarId) -> None:
        """A sidecar is gone."""
        self._deaf.tell(sidecar, {})
        self._covered.tell(sidecar, {})

    def count(self, node: NodeId, incarnation: int) -> int:
        """Return how many others cannot hear this life of a node."""
        return self._deaf.counts.get((node, incarnation), 0)

    def is_heard(self, node: NodeId, incarnation: int) -> bool:
        """Whether another sidecar hears this life of a node."""
        return (node, incarnation) in self._covered.counts

    def unknown(self, known: Collection[NodeId]) -> dict[NodeId, int]:
        """Return what others hear of nodes that are not `known`, in the latest of their lives."""
        lives = sorted(life for life in self._covered.counts if life[0] not in known)
        return dict(lives)

    def best(self, nodes: Lives, unheard: Collection[NodeId]) -> frozenset[NodeId]:
        """Return those of `nodes`, given with their lives, that the fewest cannot hear.

        `unheard` are those that this sidecar cannot hear itself.
        """
        counts = {name: self.count(name, life) + (name in unheard) for name, life in nodes.items()}
        fewest = min(counts.values(), default=0)
        return frozenset(name for name, count in counts.items() if count == fewest)
