"""Names of the fleet: ids, addresses, and the reserved channels."""

import re
from enum import Enum, IntEnum
from ipaddress import IPv4Network, IPv6Network
from typing import NewType, Self

import attrs

from fanout.errors import ConfigError

NodeId = NewType("NodeId", str)

SidecarId = NewType("SidecarId", str)

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""The format of names of nodes, sidecars, clusters and users."""

PROTOCOL_VERSION = 1
"""The version of records and control messages that this build reads and writes."""

RESERVED_PREFIX = b"__fanout:"
"""Channels below this prefix carry fanout's own messages; clients may not use them."""

IDENTITY_KEY = b"__fanout:identity"
"""Key on a node that holds its cluster, id and incarnation."""

PRESENCE_CHANNEL = RESERVED_PREFIX + b"presence"
"""Every sidecar subscribes to it on every node: its NUMSUB is the number of sidecars."""

SHARD_PREFIX = RESERVED_PREFIX + b"shard:"
"""Prefix of the channels on the nodes that carry shard channels of clients.

Shard channels have a namespace of their own; Redis 6.2 does not support them.
"""

PORT_MAX = 65535

PORT_DIGITS_MAX = 9
"""Leading zeros included. Python refuses to parse numbers of thousands of digits."""

IPNetwork = IPv4Network | IPv6Network


@attrs.frozen(slots=True)
class Endpoint:
    """The address of a listener: a TCP `host` and `port`, or a Unix socket `path`."""

    host: str = ""
    port: int = 0
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `HOST:PORT`, `[IPV6]:PORT` or `unix:PATH`.

        Raises:
            ConfigError: the format is another one, or the port is not 0 to 65535.

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


class Kind(IntEnum):
    """The two kinds of subscription. Integers, since these hash fastest."""

    CHANNEL = 1
    PATTERN = 2


class Space(Enum):
    """The three namespaces of subscriptions."""

    CHANNELS = "channels"
    PATTERNS = "patterns"
    SHARDS = "shards"


CENSUS_CHANNEL = RESERVED_PREFIX + b"census"
"""Every sidecar that answers census questions subscribes to it on every node."""

CENSUS_INBOX_PREFIX = RESERVED_PREFIX + b"census-to:"
"""Prefix of the channel, on every node, for answers to a sidecar's census questions."""

INBOX_PREFIX = RESERVED_PREFIX + b"to:"
"""Prefix of the channel, on every node, for control messages to one sidecar."""

CONTROL_CHANNEL = RESERVED_PREFIX + b"control"
"""Channel on every node for control messages to all sidecars."""


def probe_channel(sidecar: SidecarId) -> bytes:
    """Return the channel that a sidecar publishes probes on, to receive them itself."""
    return RESERVED_PREFIX + b"probe:" + sidecar.encode()
