"""What a link to a node needs of the two machines that own it."""

from collections.abc import Mapping
from typing import Any, Protocol

from fanout.core.subscriptions import LinkSubscriptions
from fanout.values.control import Deaf
from fanout.values.names import NodeId, SidecarId
from fanout.values.records import NodeRecord, NodeState, SidecarRecord


class LinkFleet(Protocol):
    """The methods of `Fleet` that a link calls."""

    @property
    def sidecars(self) -> Mapping[SidecarId, SidecarRecord]:
        """The records of all live sidecars."""

    def links_changed(self) -> None:
        """Recompute what depends on the links and the states of nodes."""

    def take_deaf(self, deaf: Deaf) -> None:
        """Record which nodes another sidecar cannot hear."""

    def note_stay(self, state: NodeState, after: NodeRecord | None, seconds: float) -> None:
        """Count how long a node was in a state."""


class LinkFanout(Protocol):
    """The methods of `Fanout` that a link calls."""

    def open(self, node: NodeId) -> LinkSubscriptions:
        """Start the subscriptions of a new connection to a node."""

    def close(self, link: LinkSubscriptions) -> None:
        """Discard the subscriptions of a lost connection."""

    def take_pushes(
        self, link: LinkSubscriptions, pushes: list[list[Any]]
    ) -> tuple[int, list[tuple[bytes, bytes]]]:
        """Fan out pushes; return the number of client messages, and the reserved messages."""

    def take_run(self, channel: bytes, payloads: list[bytes]) -> bool:
        """Fan out successive messages of one channel; return False when it has no receiver."""

    def take_census(self, node: Any, channel: bytes, payload: bytes) -> None:
        """Handle a message on a census channel; ignore any other."""

    def barrier_reached(self, number: int) -> None:
        """Record that a sidecar has received an order barrier of this one."""

    def has_barrier(self, node: NodeId) -> bool:
        """Return whether sidecars have yet to receive an order barrier on a node."""

    def flush(self) -> None:
        """Send all pending output."""
