"""The admin door of both commands: health and metrics."""

import ssl
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import trio
from starlette.routing import BaseRoute

import fanout
from fanout.config import NodeConfig, SidecarConfig
from fanout.errors import ConfigError, leaves
from fanout.runtime.metrics.metrics import Table, metrics_route
from fanout.runtime.net.http import Readiness
from fanout.runtime.net.world import World
from fanout.runtime.process.loop_watch import LoopWatch
from fanout.values.names import Endpoint

S = TypeVar("S")


def labels_of(command: str, config: SidecarConfig | NodeConfig) -> tuple[str, str, str, str]:
    """Return the labels that identify a process: command, version, cluster and id."""
    return command, fanout.__version__, config.cluster, config.id


async def start_admin(
    nursery: trio.Nursery,
    world: World,
    endpoint: Endpoint,
    *,
    readiness: Callable[[], Readiness],
    table: Table[S],
    statistics: Callable[[], S],
    loop: LoopWatch,
    tls: ssl.SSLContext | None,
    hosts: Sequence[str],
    origins: Sequence[str] = (),
    routes: Sequence[BaseRoute] = (),
) -> str:
    """Serve health, metrics and `routes`; return the URL of the door.

    Raises:
        ConfigError: the address cannot be bound; in an exception group, as from any nursery.

    """
    try:
        bound: Endpoint = await nursery.start(
            partial(
                world.serve_admin,
                endpoint,
                readiness,
                loop=loop,
                origins=origins,
                tls=tls,
                hosts=hosts,
                routes=(metrics_route(table, statistics), *routes),
            )
        )
    except* OSError as group:
        reason = "; ".join(getattr(each, "strerror", "") or str(each) for each in leaves(group))
        raise ConfigError(
            f"--admin: cannot listen on {endpoint}: {reason}; "
            "choose a free address, or port 0 for any free port"
        ) from group
    return f"http{'s' if tls is not None else ''}://{bound}/"
