"""What agents and sidecars tell each other on the nodes."""

from collections.abc import Mapping

import attrs

from fanout.values.names import NodeId, SidecarId
from fanout.values.requests import Question


@attrs.frozen(slots=True)
class End:
    """Control message: the last thing published on this node in this incarnation."""

    node: NodeId
    incarnation: int


@attrs.frozen(slots=True)
class OrderBarrier:
    """Control message of a sidecar: all it published on this node before is before this."""

    sidecar: SidecarId
    number: int


@attrs.frozen(slots=True)
class BarrierReached:
    """Control message to the sidecar that published a fence: one more has received it."""

    number: int


@attrs.frozen(slots=True)
class Deaf:
    """Control message of a sidecar: the nodes, by life, that it cannot hear now."""

    sidecar: SidecarId
    nodes: Mapping[NodeId, int]


@attrs.frozen(slots=True)
class CensusQuestion:
    """Message of a sidecar to all: how many clients does each of you have for this?"""

    sidecar: SidecarId
    number: int
    question: Question


@attrs.frozen(slots=True)
class CensusAnswer:
    """Message to the sidecar that asked: one of `parts` pieces of what one sidecar counted."""

    sidecar: SidecarId
    number: int
    part: int
    parts: int
    counts: Mapping[bytes, int]
