"""What a service takes from outside; a simulated fleet brings another one."""

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
        """Report the bound address as started, then serve."""


def _wall_milliseconds() -> int:
    return time.time_ns() // 1_000_000


@attrs.frozen(kw_only=True)
class World:
    """The network, chance, the wall clock, and HTTP; all else is up to trio's clock."""

    network: Network = attrs.field(factory=SocketNetwork)
    node_network: Network = attrs.field(
        default=attrs.Factory(lambda self: self.network, takes_self=True)
    )
    """For addresses of nodes, which are what others wrote to discovery."""
    rng: random.Random = attrs.field(factory=random.Random)
    wall_milliseconds: Callable[[], int] = _wall_milliseconds
    serve_admin: ServeAdmin = serve_admin
    allow_clients: Callable[[int], None] = lambda _clients: None
    """Called with how many clients there may be; see `fanout.runtime.net.file_limit`."""


def real_world(contexts: Contexts, within: Sequence[IPNetwork] = ()) -> World:
    """Return the world as it is, with TLS where an address asks for it.

    Nodes are only looked for `within` these networks, anywhere when there are none.
    """
    return World(
        network=TlsNetwork(SocketNetwork(), contexts),
        node_network=TlsNetwork(SocketNetwork(within), contexts),
        allow_clients=raise_file_limit,
    )


def fleet_world(config: FleetConfig) -> World:
    """Return what looks at a fleet from outside go through; many may. Raises ConfigError."""
    return real_world(Contexts(TlsFiles.of(config)))
