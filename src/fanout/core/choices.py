"""A cache of the node that a publisher chooses for each channel."""

from collections.abc import Collection, Mapping
from typing import Generic, TypeVar

from fanout.core.placement import place
from fanout.values.names import NodeId

CHOICES_MAX = 100_000
"""Channels whose node is cached; clearing the cache only costs ranking them again."""

N = TypeVar("N")


class Choices(Generic[N]):
    """The best node for each channel, out of a changing set of nodes."""

    __slots__ = ("_best", "nodes")

    def __init__(self) -> None:
        self.nodes: Mapping[NodeId, N] = {}
        """The nodes to choose from; set with `use`."""
        self._best: dict[bytes, N] = {}

    def use(self, nodes: Mapping[NodeId, N]) -> None:
        """Set the nodes to choose from."""
        before, self.nodes = self.nodes, dict(nodes)
        if before != self.nodes:
            self._best.clear()

    def best(self, channel: bytes) -> N | None:
        """Return the node that the channel is placed on; None when there are no nodes."""
        node = self._best.get(channel)
        if node is None and self.nodes:
            node = self.next(channel, ())
            assert node is not None  # noqa: S101 - there are nodes
            if len(self._best) >= CHOICES_MAX:
                self._best.clear()
            self._best[channel] = node
        return node

    def next(self, channel: bytes, tried: Collection[NodeId]) -> N | None:
        """Return the best node that was not tried; None when all were."""
        chosen = place(channel, self.nodes.keys() - tried).publish
        return self.nodes[chosen] if chosen is not None else None
