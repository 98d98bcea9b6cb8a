"""Which nodes the sidecars of a fleet cannot hear, and where to publish for that.

A sidecar that cannot hear a node misses what others publish there, and only it can notice. It says
so, and everybody publishes on the nodes that the fewest cannot hear. A sidecar that is deaf to all
nodes adds the same to each and changes nothing: it cannot take the fleet's nodes away.
"""

from collections import Counter
from collections.abc import Collection, Mapping

from fanout.values import NodeId, SidecarId


class Hearing:
    """What the other sidecars said; the last word of each counts."""

    def __init__(self) -> None:
        self._deaf: dict[SidecarId, dict[NodeId, int]] = {}
        # Kept, not counted anew for each word: after a crash every sidecar says one.
        self._counts: Counter[tuple[NodeId, int]] = Counter()

    def tell(self, sidecar: SidecarId, deaf: Mapping[NodeId, int]) -> bool:
        """Take which nodes, in which life, a sidecar cannot hear; return whether that is news."""
        before = self._deaf.get(sidecar, {})
        if deaf == before:
            return False
        self._counts.subtract(before.items())
        self._counts.update(deaf.items())
        self._counts += Counter()  # forgets what nobody is deaf to
        if deaf:
            self._deaf[sidecar] = dict(deaf)
        else:
            del self._deaf[sidecar]
        return True

    def forget(self, sidecar: SidecarId) -> None:
        """A sidecar is gone."""
        self.tell(sidecar, {})

    def count(self, node: NodeId, incarnation: int) -> int:
        """Return how many others cannot hear this life of a node."""
        return self._counts[node, incarnation]

    def best(self, nodes: Mapping[NodeId, int], unheard: Collection[NodeId]) -> frozenset[NodeId]:
        """Return those of `nodes`, given with their lives, that the fewest cannot hear.

        `unheard` are those that this sidecar cannot hear itself.
        """
        counts = {name: self.count(name, life) + (name in unheard) for name, life in nodes.items()}
        fewest = min(counts.values(), default=0)
        return frozenset(name for name, count in counts.items() if count == fewest)
