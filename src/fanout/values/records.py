"""Records in discovery, and the snapshot that one read of it returns."""

from collections.abc import Mapping
from enum import Enum
from typing import Any, Protocol

import attrs

from fanout.values.names import PROTOCOL_VERSION, Endpoint, NodeId, SidecarId


class NodeState(Enum):
    """The state of a node; within an incarnation it only moves down this list."""

    JOINING = "joining"  # sidecars subscribe; none publishes yet
    ACTIVE = "active"  # sidecars publish
    DRAINING = "draining"  # publishers leave first, subscribers last
    GONE = "gone"  # said goodbye; the record stays as a tombstone


class FenceMode(Enum):
    """How a node keeps publishers out while it is joining or draining."""

    ACL = "acl"  # Redis refuses: the data user lacks +publish
    COOPERATIVE = "cooperative"  # sidecars agree not to


class Record(Protocol):
    """The common part of all records. Each has one writer; the newest wins."""

    @property
    def cluster(self) -> str:
        """The fleet it belongs to."""

    @property
    def id(self) -> str:
        """The id of its subject, unique within its kind; part of the key in discovery."""

    @property
    def incarnation(self) -> int:
        """The incarnation of its subject."""

    @property
    def stamp(self) -> tuple[int, int]:
        """Order of the records of one subject: the larger is the newer."""

    @property
    def lease_seconds(self) -> float:
        """How long it is valid without a newer one; infinity: until there is one."""

    @property
    def gone(self) -> bool:
        """Whether its subject has left; the record is then kept for a while, as a tombstone."""


@attrs.frozen(slots=True, kw_only=True)
class LeasedRecord:
    """The common part of the records of nodes and sidecars, which their writers renew."""

    cluster: str
    incarnation: int  # of the subject; grows with every restart
    version: int  # number of the record within the incarnation; grows with every write
    lease_seconds: float  # how long this record is valid without a newer one
    extra: Mapping[str, Any] = attrs.field(factory=dict)  # unknown fields, kept as read

    @property
    def stamp(self) -> tuple[int, int]:
        """Order of the records of one subject: the larger is the newer."""
        return (self.incarnation, self.version)


@attrs.frozen(slots=True, kw_only=True)
class NodeRecord(LeasedRecord):
    """The record of a node, written by its agent; each start of its Redis is a new incarnation."""

    node: NodeId
    owner: str  # name of the agent process, to detect two agents with one node id
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
        """Whether the node has left."""
        return self.state is NodeState.GONE


@attrs.frozen(slots=True, kw_only=True)
class SidecarRecord(LeasedRecord):
    """The record of a sidecar, written by itself."""

    sidecar: SidecarId
    covered: Mapping[NodeId, int] = attrs.field(factory=dict)  # node -> incarnation subscribed on
    stopped: Mapping[NodeId, int] = attrs.field(factory=dict)  # no longer published to
    deaf: Mapping[NodeId, int] = attrs.field(factory=dict)  # cannot be heard
    gone: bool = False  # it has left: joins and drains do not wait for it
    protocol_min: int = PROTOCOL_VERSION
    protocol_max: int = PROTOCOL_VERSION

    @property
    def id(self) -> SidecarId:
        """The sidecar's name."""
        return self.sidecar


@attrs.frozen(slots=True, kw_only=True)
class Identity:
    """The value of `IDENTITY_KEY` on a node, written by its agent."""

    cluster: str
    node: NodeId
    incarnation: int
    run_id: str


@attrs.frozen(slots=True, kw_only=True)
class DrainRequest:
    """A request to a node's agent to drain, written to discovery by `fanout-node drain`."""

    cluster: str
    node: NodeId
    incarnation: int  # the incarnation to drain; a later one ignores the request
    force: bool = False  # also when no other node is active


@attrs.frozen(slots=True)
class Snapshot:
    """The result of one read of one discovery instance."""

    nodes: tuple[NodeRecord, ...] = ()
    sidecars: tuple[SidecarRecord, ...] = ()
    drain: DrainRequest | None = None  # read by agents only
    further: tuple[Record, ...] = ()  # of the further kinds that were requested
