"""What discovery holds: the records of nodes and sidecars, and what one read of it returns."""

from collections.abc import Mapping
from enum import Enum
from typing import Any, Protocol

import attrs

from fanout.values.names import PROTOCOL_VERSION, Endpoint, NodeId, SidecarId


class NodeState(Enum):
    """Where a node stands in one incarnation; it only ever moves down this list."""

    JOINING = "joining"  # sidecars subscribe, nobody publishes yet
    ACTIVE = "active"  # sidecars publish
    DRAINING = "draining"  # publishers leave first, subscribers last
    GONE = "gone"  # said goodbye; the record stays as a tombstone


class FenceMode(Enum):
    """How a node keeps publishers out while it joins and drains."""

    ACL = "acl"  # Redis itself refuses: the data user lacks +publish
    COOPERATIVE = "cooperative"  # sidecars agree not to


class Record(Protocol):
    """What records of every kind have: one writer each, the newest wins."""

    @property
    def cluster(self) -> str:
        """The fleet it is of."""

    @property
    def id(self) -> str:
        """What it is the record of, unique in its kind; part of a key in discovery."""

    @property
    def incarnation(self) -> int:
        """Number of this life of its subject."""

    @property
    def stamp(self) -> tuple[int, int]:
        """Order of the records of one subject: the larger is the newer."""

    @property
    def lease_seconds(self) -> float:
        """How long to believe it without a newer one; infinity: until there is one."""

    @property
    def gone(self) -> bool:
        """Whether it says goodbye; it is then kept for a while, as a tombstone."""


@attrs.frozen(slots=True, kw_only=True)
class LeasedRecord:
    """What records have that their one writer renews, be it of a node or a sidecar."""

    cluster: str
    incarnation: int  # number of this life of the subject
    version: int  # number of the record within the incarnation; grows with every write
    lease_seconds: float  # how long an observer may believe this record without a newer one
    extra: Mapping[str, Any] = attrs.field(factory=dict)  # fields of a newer build, kept as read

    @property
    def stamp(self) -> tuple[int, int]:
        """Order of the records of one subject: the larger is the newer."""
        return (self.incarnation, self.version)


@attrs.frozen(slots=True, kw_only=True)
class NodeRecord(LeasedRecord):
    """What a node's agent tells discovery; a life of a node begins with a start of its Redis."""

    node: NodeId
    owner: str  # random name of the agent process, to notice two agents with one node id
    state: NodeState
    endpoint: Endpoint
    run_id: str  # Redis' own name for this run of the server process
    fence: FenceMode = FenceMode.COOPERATIVE
    tls: bool = False  # whether the endpoint speaks TLS
    protocol_min: int = PROTOCOL_VERSION
    protocol_max: int = PROTOCOL_VERSION

    @property
    def id(self) -> NodeId:
        """The node's name."""
        return self.node

    @property
    def gone(self) -> bool:
        """Whether it says goodbye."""
        return self.state is NodeState.GONE


@attrs.frozen(slots=True, kw_only=True)
class SidecarRecord(LeasedRecord):
    """What a sidecar tells discovery about itself."""

    sidecar: SidecarId
    covered: Mapping[NodeId, int] = attrs.field(factory=dict)  # node -> incarnation subscribed on
    stopped: Mapping[NodeId, int] = attrs.field(factory=dict)  # no longer published to
    deaf: Mapping[NodeId, int] = attrs.field(factory=dict)  # cannot be heard
    gone: bool = False  # said goodbye: nobody needs to wait for it
    protocol_min: int = PROTOCOL_VERSION
    protocol_max: int = PROTOCOL_VERSION

    @property
    def id(self) -> SidecarId:
        """The sidecar's name."""
        return self.sidecar


@attrs.frozen(slots=True, kw_only=True)
class Identity:
    """Content of `IDENTITY_KEY` on a node: who the agent says this Redis is."""

    cluster: str
    node: NodeId
    incarnation: int
    run_id: str


@attrs.frozen(slots=True, kw_only=True)
class DrainRequest:
    """What somebody asks of a node's agent, by way of discovery."""

    cluster: str
    node: NodeId
    incarnation: int  # the life that is meant; a later one has nothing to do with it
    force: bool = False  # also when no other node is active


@attrs.frozen(slots=True)
class Snapshot:
    """What one read of one discovery instance returned."""

    nodes: tuple[NodeRecord, ...] = ()
    sidecars: tuple[SidecarRecord, ...] = ()
    drain: DrainRequest | None = None  # read by agents only
    further: tuple[Record, ...] = ()  # of the further kinds that were asked for
