"""The admin door of both commands: health and metrics."""

from collections.abc import Callable
from typing import TypeVar

import attrs
import trio

import fanout
from fanout.config import NodeConfig, SidecarConfig
from fanout.errors import ConfigError, leaves
from fanout.runtime.metrics.metrics import Table, metrics_route
from fanout.runtime.net.http import AdminDoor
from fanout.runtime.net.world import World
from fanout.values.names import Endpoint

S = TypeVar("S")


def labels_of(command: str, config: SidecarConfig | NodeConfig) -> tuple[str, str, str, str]:
    """Return the labels that identify a process: command, version, cluster and id."""
    return command, fanout.__version__, config.cluster, config.id


async def start_admin(
    nursery: trio.Nursery,
    world: World,
    door: AdminDoor,
    table: Table[S],
    statistics: Callable[[], S],
) -> str:
    """Serve an admin door with a route for metrics; return its URL.

    Raises:
        ConfigError: the address cannot be bound; in an exception group, as from any nursery.

    """
    door = attrs.evolve(door, routes=(metrics_route(table, statistics), *door.routes))
    try:
        bound: Endpoint = await nursery.start(world.serve_admin, door)
    except* OSError as group:
        reason = "; ".join(getattr(each, "strerror", "") or str(each) for each in leaves(group))
        raise ConfigError(
            f"--admin: cannot listen on {door.endpoint}: {reason}; "
            "choose a free address, or port 0 for any free port"
        ) from group
    return f"http{'s' if door.tls is not None else ''}://{bound}/"
