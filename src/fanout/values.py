"""The vocabulary that the pure cores and the wire share: frozen values, no behaviour.

Long because a vocabulary is looked up in one place.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, IntEnum
from ipaddress import IPv4Network, IPv6Network
from typing import Any, NewType, Protocol, Self

import attrs

from fanout.errors import ConfigError

NodeId = NewType("NodeId", str)
SidecarId = NewType("SidecarId", str)

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""The form of the names of nodes, sidecars, clusters and users."""

PROTOCOL_VERSION = 1
"""Version of the records and control messages that this build writes and understands."""

RESERVED_PREFIX = b"__fanout:"
"""Channels below this prefix carry fanout's own messages; clients may not use them."""

IDENTITY_KEY = b"__fanout:identity"
"""Key on a node that tells which node, of which cluster and in which life, it is."""

PRESENCE_CHANNEL = RESERVED_PREFIX + b"presence"
"""Every sidecar subscribes to it on every node: its NUMSUB is a head count of sidecars."""

SHARD_PREFIX = RESERVED_PREFIX + b"shard:"
"""With a name behind it: the channel on the nodes that carries a shard channel of clients.

Shard channels are a space of names of their own; nodes of Redis 6.2 do not know them.
"""

PORT_MAX = 65535
PORT_DIGITS_MAX = 9
"""With zeros in front. Python reads no number of thousands of digits."""

IPNetwork = IPv4Network | IPv6Network


@attrs.frozen(slots=True)
class Endpoint:
    """Where something listens: a TCP `host` and `port`, or a Unix socket `path`."""

    host: str = ""
    port: int = 0
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `HOST:PORT`, `[IPV6]:PORT` or `unix:PATH`.

        Raises:
            ConfigError: the text has another form or the port is not 0 to 65535.

        """
        if text.startswith("unix:"):
            path = text.removeprefix("unix:")
            if not path:
                raise ConfigError(f"{text!r} names no path; write unix:/run/fanout.sock")
            return cls(path=path)
        host, colon, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        named = host and not set(host) & set("[]")
        if not colon or not named or not port.isascii() or not port.isdigit():
            raise ConfigError(f"{text!r} is not HOST:PORT, [IPV6]:PORT or unix:PATH")
        if len(port) > PORT_DIGITS_MAX or int(port) > PORT_MAX:
            raise ConfigError(f"{text!r} has a port over {PORT_MAX}")
        return cls(host=host, port=int(port))

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


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


class Kind(IntEnum):
    """The two kinds of subscription, in Redis' words. Numbers, as these hash fastest."""

    CHANNEL = 1
    PATTERN = 2


class Encoding(Enum):
    """How one delivery is written for one kind of local client."""

    RESP2 = "resp2"
    RESP3 = "resp3"
    JSON = "json"  # a websocket text frame


Ready = bytes | Callable[[], bytes]
"""The bytes of a reply, or what makes them at the moment they go out."""


@attrs.frozen(slots=True)
class Reply:
    """A request was answered on the spot; `data` goes to the client in its turn."""

    data: Ready


@attrs.frozen(slots=True)
class Publish:
    """The client publishes; its reply is written when the outcome is known."""

    channel: bytes
    payload: bytes
    tag: Any = None  # whatever the door needs to write the reply, such as a request id


@attrs.define
class PublishRun:
    """The client publishes messages in a row, and wants a reply to each."""

    channels: Sequence[bytes]  # of each message
    data: bytes  # the commands as the client wrote them
    ends: Sequence[int]  # where each of them ends


@attrs.frozen(slots=True)
class Subscribe:
    """The client subscribes to `names` it did not have; `reply` follows the confirmation."""

    kind: Kind
    names: tuple[bytes, ...]
    reply: bytes
    tag: Any = None  # for a door that writes its reply when it knows which nodes confirmed


@attrs.frozen(slots=True)
class Unsubscribe:
    """The client gives up `names`; after `reply` it gets nothing more for them."""

    kind: Kind
    names: tuple[bytes, ...]
    reply: bytes


@attrs.frozen(slots=True)
class Reset:
    """The client gives up everything and starts anew; deliveries follow `encoding`."""

    encoding: Encoding
    unsubscribe: bool
    reply: bytes


@attrs.frozen(slots=True)
class Close:
    """The connection ends after `reply`."""

    reply: Ready
    reason: str


class Space(Enum):
    """The three spaces of names that clients subscribe in."""

    CHANNELS = "channels"
    PATTERNS = "patterns"
    SHARDS = "shards"


@attrs.frozen(slots=True)
class Question:
    """How many clients subscribe to what, in the whole fleet?

    About `names`, or, where that is None, about every name that matches the pattern `glob`; about
    every name at all where that is None too: to Redis `*` does not match the empty name.
    """

    space: Space
    names: tuple[bytes, ...] | None = None
    glob: bytes | None = None


@attrs.frozen(slots=True)
class Ask:
    """The fleet is asked; `reply` makes the reply of the clients counted for each name."""

    question: Question
    reply: Callable[[Mapping[bytes, int]], bytes]


@attrs.frozen(slots=True)
class Exec:
    """Several requests are answered at once: `header`, then the reply of each action."""

    header: bytes
    actions: tuple["Action", ...]


Action = Reply | Publish | Subscribe | Unsubscribe | Reset | Close | Ask | Exec
"""What a door's session wants done for one request."""


@attrs.frozen(slots=True)
class NotPublished:
    """Certainly not executed anywhere. `code` is stable, `message` is for a person."""

    code: str
    message: str


@attrs.frozen(slots=True)
class OutcomeUnknown:
    """The connection to the node broke with the publish in flight: it may have been executed."""

    message: str


Outcome = int | NotPublished | OutcomeUnknown
"""What became of a publish. A number: the node executed it, and so many receivers are told."""


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


@attrs.frozen(slots=True)
class End:
    """Control message: the last thing published on this node in this incarnation."""

    node: NodeId
    incarnation: int


@attrs.frozen(slots=True)
class Fence:
    """Control message of a sidecar: all it published on this node before is before this."""

    sidecar: SidecarId
    number: int


@attrs.frozen(slots=True)
class FenceReceived:
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


CENSUS_CHANNEL = RESERVED_PREFIX + b"census"
"""Every sidecar that answers census questions subscribes to it on every node."""

CENSUS_INBOX_PREFIX = RESERVED_PREFIX + b"census-to:"
"""With a sidecar's id behind it: the channel on every node for answers to its questions."""

INBOX_PREFIX = RESERVED_PREFIX + b"to:"
"""With a sidecar's id behind it: the channel on every node for what is told to it alone."""

CONTROL_CHANNEL = RESERVED_PREFIX + b"control"
"""Channel on every node for what agents and sidecars tell all sidecars."""
