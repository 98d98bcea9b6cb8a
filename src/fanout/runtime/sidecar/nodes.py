"""The links of a sidecar to the nodes, shared by `Fleet` and `Fanout`.

`Fleet` adds and removes links; `Fanout` publishes and subscribes over them.
"""

from collections.abc import Collection, Iterator, Mapping

from fanout.core.hearing import Hearing
from fanout.runtime.sidecar.node_link import NodeLink
from fanout.values.names import NodeId
from fanout.values.records import NodeState

CARRYING = (NodeState.ACTIVE, NodeState.DRAINING)


class Nodes(Mapping[NodeId, NodeLink]):
    """The link to each known node.

    Attributes:
        hearing: which nodes the other sidecars hear.

    """

    def __init__(self) -> None:
        self._links: dict[NodeId, NodeLink] = {}
        self.hearing = Hearing()

    def __getitem__(self, node: NodeId) -> NodeLink:
        return self._links[node]

    def __iter__(self) -> Iterator[NodeId]:
        return iter(self._links)

    def __len__(self) -> int:
        return len(self._links)

    def add(self, link: NodeLink) -> None:
        """Add the link to a node."""
        self._links[link.record.node] = link

    def remove(self, node: NodeId) -> NodeLink:
        """Remove the link to a node and return it."""
        return self._links.pop(node)

    @property
    def active(self) -> Mapping[NodeId, NodeLink]:
        """The links to active nodes: those that accept publishes."""
        return {
            name: link
            for name, link in self._links.items()
            if link.record.state is NodeState.ACTIVE
        }

    @property
    def carrying(self) -> Mapping[NodeId, NodeLink]:
        """The links to nodes that may carry publishes: active, or draining before END."""
        return {
            name: link
            for name, link in self._links.items()
            if link.record.state in CARRYING and not link.has_ended
        }

    @property
    def unheard(self) -> tuple[NodeId, ...]:
        """The active nodes that this sidecar does not hear, by name."""
        return tuple(sorted(name for name, link in self.active.items() if link.unheard))

    def unready(self, refusing: Collection[NodeId]) -> str:
        """Return why a sidecar with these links is not ready; empty when it is."""
        active = self.active
        if not active:
            return "no active node"
        uncovered = sorted(name for name, link in self.carrying.items() if not link.covered)
        if uncovered:
            return f"not subscribed on {', '.join(uncovered)}"
        closed = sorted(name for name, link in active.items() if not link.usable)
        if closed:
            return f"cannot publish to {', '.join(closed)}"
        if active.keys() <= set(refusing):
            return "all active nodes refuse publishes"
        return ""

    def facts(self) -> Mapping[str, Mapping[str, str | bool]]:
        """Return the state of each link, for people."""
        return {
            name: {
                "state": link.record.state.value,
                "covered": link.covered,
                "deaf": link.unheard,
                "usable": link.usable,
            }
            for name, link in sorted(self._links.items())
        }
