"""The names of the fleet: ids, addresses, and the channels that fanout keeps for itself."""

import re
from enum import Enum, IntEnum
from ipaddress import IPv4Network, IPv6Network
from typing import NewType, Self

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


class Kind(IntEnum):
    """The two kinds of subscription, in Redis' words. Numbers, as these hash fastest."""

    CHANNEL = 1
    PATTERN = 2


class Space(Enum):
    """The three spaces of names that clients subscribe in."""

    CHANNELS = "channels"
    PATTERNS = "patterns"
    SHARDS = "shards"


CENSUS_CHANNEL = RESERVED_PREFIX + b"census"
"""Every sidecar that answers census questions subscribes to it on every node."""

CENSUS_INBOX_PREFIX = RESERVED_PREFIX + b"census-to:"
"""With a sidecar's id behind it: the channel on every node for answers to its questions."""

INBOX_PREFIX = RESERVED_PREFIX + b"to:"
"""With a sidecar's id behind it: the channel on every node for what is told to it alone."""

CONTROL_CHANNEL = RESERVED_PREFIX + b"control"
"""Channel on every node for what agents and sidecars tell all sidecars."""


def probe_channel(sidecar: SidecarId) -> bytes:
    """Return the channel that a sidecar publishes probes on, to receive them itself."""
    return RESERVED_PREFIX + b"probe:" + sidecar.encode()
