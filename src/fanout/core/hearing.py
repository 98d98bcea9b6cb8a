"""Which nodes the sidecars of a fleet cannot hear, and where to publish for that.

A sidecar that cannot hear a node misses what others publish there, and only it can notice. It says
so, and everybody publishes on the nodes that the fewest cannot hear. A sidecar that is deaf to all
nodes adds the same to each and changes nothing: it cannot take the fleet's nodes away.
"""

from collections.abc import Collection, Mapping

from fanout.values import NodeId, SidecarId


class Hearing:
    """What the other sidecars said; the last word of each counts."""

    def __init__(self) -> None:
        self._deaf: dict[SidecarId, dict[NodeId, int]] = {}

    def tell(self, sidecar: SidecarId, deaf: Mapping[NodeId, int]) -> None:
        """Take which nodes, in which life, a sidecar cannot hear."""
        if deaf:
            self._deaf[sidecar] = dict(deaf)
        else:
            self._deaf.pop(sidecar, None)

    def forget(self, sidecar: SidecarId) -> None:
        """A sidecar is gone."""
        self._deaf.pop(sidecar, None)

    def count(self, node: NodeId, incarnation: int) -> int:
        """Return how many others cannot hear this life of a node."""
        return sum(deaf.get(node) == incarnation for deaf in self._deaf.values())

    def best(self, nodes: Mapping[NodeId, int], unheard: Collection[NodeId]) -> frozenset[NodeId]:
        """Return those of `nodes`, given with their lives, that the fewest cannot hear.

        `unheard` are those that this sidecar cannot hear itself.
        """
        counts = {name: self.count(name, life) + (name in unheard) for name, life in nodes.items()}
        fewest = min(counts.values(), default=0)
        return frozenset(name for name, count in counts.items() if count == fewest)
