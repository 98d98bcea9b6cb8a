"""The external dependencies of a service, which the simulation replaces."""

import random
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import attrs
import trio

from fanout.config import FleetConfig, TlsFiles
from fanout.runtime.net.certificates import Contexts
from fanout.runtime.net.file_limit import raise_file_limit
from fanout.runtime.net.http import AdminDoor, serve_admin
from fanout.runtime.net.tls import TlsNetwork
from fanout.runtime.net.transport import Network, SocketNetwork
from fanout.values.names import Endpoint, IPNetwork


class ServeAdmin(Protocol):
    """Serves the admin door until cancelled; see `fanout.runtime.net.http.serve_admin`."""

    async def __call__(self, door: AdminDoor, *, task_status: trio.TaskStatus[Endpoint]) -> None:
        """Pass the bound address to `task_status`, then serve."""


def _wall_milliseconds() -> int:
    return time.time_ns() // 1_000_000


@attrs.frozen(kw_only=True)
class World:
    """The network, randomness, the wall clock and HTTP. Everything else uses trio's clock."""

    network: Network = attrs.field(factory=SocketNetwork)
    node_network: Network = attrs.field(
        default=attrs.Factory(lambda self: self.network, takes_self=True)
    )
    """The network for addresses of nodes, which others wrote to discovery."""
    rng: random.Random = attrs.field(factory=random.Random)
    wall_milliseconds: Callable[[], int] = _wall_milliseconds
    serve_admin: ServeAdmin = serve_admin
    allow_clients: Callable[[int], None] = lambda _clients: None
    """Called with the maximum of clients; see `fanout.runtime.net.file_limit`."""


def real_world(contexts: Contexts, within: Sequence[IPNetwork] = ()) -> World:
    """Return the world of a real process, with TLS for addresses that require it.

    Connections to nodes are limited to the networks in `within`; an empty one sets no limit.
    """
    return World(
        network=TlsNetwork(SocketNetwork(), contexts),
        node_network=TlsNetwork(SocketNetwork(within), contexts),
        allow_clients=raise_file_limit,
    )


def fleet_world(config: FleetConfig) -> World:
    """Return the world of a process that only reads a fleet. Raises ConfigError."""
    return real_world(Contexts(TlsFiles.of(config)))
