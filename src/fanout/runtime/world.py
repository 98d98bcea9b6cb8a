"""What a service takes from outside; a simulated fleet brings another one."""

import random
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import attrs
import trio
from starlette.routing import BaseRoute

from fanout.runtime.admin import Readiness, serve_admin
from fanout.runtime.certificates import Contexts
from fanout.runtime.file_limit import raise_file_limit
from fanout.runtime.loop_watch import LoopWatch
from fanout.runtime.tls import TlsNetwork
from fanout.runtime.transport import Network, SocketNetwork
from fanout.values import Endpoint


class ServeAdmin(Protocol):
    """Serves the admin door until cancelled; see `fanout.runtime.admin.serve_admin`."""

    async def __call__(
        self,
        endpoint: Endpoint,
        readiness: Callable[[], Readiness],
        *,
        loop: LoopWatch,
        origins: Sequence[str],
        tls: ssl.SSLContext | None,
        hosts: Sequence[str],
        routes: Sequence[BaseRoute],
        task_status: trio.TaskStatus[Endpoint],
    ) -> None:
        """Report the bound address as started, then serve."""


def _wall_milliseconds() -> int:
    return time.time_ns() // 1_000_000


@attrs.frozen(kw_only=True)
class World:
    """The network, chance, the wall clock, and HTTP; all else is up to trio's clock."""

    network: Network = attrs.field(factory=SocketNetwork)
    rng: random.Random = attrs.field(factory=random.Random)
    wall_milliseconds: Callable[[], int] = _wall_milliseconds
    serve_admin: ServeAdmin = serve_admin
    allow_clients: Callable[[int], None] = lambda _clients: None
    """Called with how many clients there may be; see `fanout.runtime.file_limit`."""


def real_world(contexts: Contexts) -> World:
    """Return the world as it is, with TLS where an address asks for it."""
    return World(network=TlsNetwork(SocketNetwork(), contexts), allow_clients=raise_file_limit)
