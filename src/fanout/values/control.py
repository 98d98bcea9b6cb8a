"""Messages between agents and sidecars, published on the nodes."""

from collections.abc import Mapping

import attrs

from fanout.values.names import NodeId, SidecarId
from fanout.values.requests import Question


@attrs.frozen(slots=True)
class End:
    """Control message of an agent: the last message published on a node in an incarnation."""

    node: NodeId
    incarnation: int


@attrs.frozen(slots=True)
class OrderBarrier:
    """Control message of a sidecar: everything it published on this node before comes before this."""

    sidecar: SidecarId
    number: int


@attrs.frozen(slots=True)
class BarrierReached:
    """Control message to the sidecar that published an order barrier: another one received it."""

    number: int


@attrs.frozen(slots=True)
class Deaf:
    """Control message of a sidecar: the nodes that it cannot hear now, with their incarnations."""

    sidecar: SidecarId
    nodes: Mapping[NodeId, int]


@attrs.frozen(slots=True)
class CensusQuestion:
    """Message to all sidecars: how many clients does each have for this?"""

    sidecar: SidecarId
    number: int
    question: Question


@attrs.frozen(slots=True)
class CensusAnswer:
    """Message to the sidecar that asked: one of `parts` pieces of the counts of one sidecar."""

    sidecar: SidecarId
    number: int
    part: int
    parts: int
    counts: Mapping[bytes, int]
