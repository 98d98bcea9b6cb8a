"""What discovery tells of the databases of services: one record each, and who it is changed by.

Only the record is here. That a replaced primary is written to by nobody is the database's own
doing, which is read-only by then: see `fanout.adjunct.replicas`.
"""

from collections.abc import Mapping
from functools import partial
from math import inf
from typing import Any

import attrs
import trio

from fanout.config import FleetConfig, mask
from fanout.config.readers import read_count, read_fixed_endpoint
from fanout.errors import CodedError, ConfigError, RemoteProtocolError
from fanout.runtime.discovery.watch import open_watch
from fanout.runtime.net.world import World, fleet_world
from fanout.wire.records import RecordKind, decode_fields, read_name

RECORD_BYTES_MAX = 65_536
REPLICAS_MAX = 256
WEIGHT_MAX = 1000


class DatabaseError(CodedError):
    """Something is wrong with a database; docs/replicas.md lists the codes."""


@attrs.frozen(kw_only=True)
class DatabaseRecord:
    """The servers of one database, each HOST:PORT. Whoever changes it writes it; it stays."""

    cluster: str
    database: str
    version: int  # milliseconds since 1970 when it was written, or more; the highest counts
    primary: str
    replicas: Mapping[str, int]  # with its weight; one of weight 0 takes no reads

    lease_seconds = inf
    incarnation = 1
    gone = False

    @property
    def id(self) -> str:
        """The database's name."""
        return self.database

    @property
    def stamp(self) -> tuple[int, int]:
        """Order of the records of one database."""
        return (self.incarnation, self.version)

    @property
    def servers(self) -> set[str]:
        """All of them."""
        return {self.primary, *self.replicas}


def _read_server(value: Any) -> str:
    """Return the one way to write HOST:PORT."""
    return str(read_fixed_endpoint(value))


def _read_replicas(value: Any) -> dict[str, int]:
    if not isinstance(value, dict) or len(value) > REPLICAS_MAX:
        raise ValueError("not a table of weights by server, or too long")
    read_weight = read_count(0, WEIGHT_MAX)
    return {_read_server(server): read_weight(weight) for server, weight in value.items()}


_READERS = {"database": read_name, "primary": _read_server, "replicas": _read_replicas}

DATABASE: RecordKind[DatabaseRecord] = RecordKind(
    "database",
    DatabaseRecord,
    partial(decode_fields, DatabaseRecord, bytes_max=RECORD_BYTES_MAX, readers=_READERS),
)


async def read_topology(
    config: FleetConfig, name: str, *, world: World | None = None
) -> DatabaseRecord:
    """Read what discovery tells of a database.

    Raises:
        DatabaseError: TOPOLOGY_UNKNOWN, discovery has no such database.
        RegistryUnavailable: no discovery instance can be read.

    """
    async with open_watch(config, (DATABASE,), world=world) as (_, watch):
        known = watch.members(DATABASE)
        if name not in known:
            names = ", ".join(sorted(known)) or "none"
            message = f"discovery knows no database {name}; known: {names}"
            raise DatabaseError("TOPOLOGY_UNKNOWN", message)
        return known[name]


async def set_topology(
    config: FleetConfig,
    name: str,
    *,
    primary: str,
    replicas: Mapping[str, int],
    world: World | None = None,
) -> DatabaseRecord:
    """Make `primary` and `replicas` (HOST:PORT -> weight 0 to 1000) the servers of a database.

    Every process that routes to it follows at once. Of two who do this at a time the later wins.

    Raises:
        DatabaseError: TOPOLOGY_PARTIAL, not every discovery instance took it.
        RegistryUnavailable: no discovery instance can be read.
        ConfigError: a name, server or weight is not allowed, or the primary is a replica too.

    """
    world = world or fleet_world(config)
    new = DatabaseRecord(
        cluster=config.cluster, database=name, version=0, primary=primary, replicas=replicas
    )
    try:
        new = DATABASE.decode(DATABASE.encode(new))
    except RemoteProtocolError as error:
        why = str(error).removeprefix("field ").replace(" of a record", "", 1)
        raise ConfigError(f"the topology of {mask(name)} is not allowed: {why}") from None
    if new.primary in new.replicas:
        raise ConfigError(f"{new.primary} is named twice; name the primary and each replica once")
    async with open_watch(config, (DATABASE,), world=world) as (registry, watch):
        with trio.move_on_after(config.timeout_seconds):
            await registry.wait_connected()
        before = watch.members(DATABASE).get(name)
        # By the clock it is also above what a discovery that was wiped since then knew.
        version = max(before.version + 1 if before else 0, world.wall_milliseconds())
        new = attrs.evolve(new, version=version)
        if await registry.write(new) < len(config.discovery):
            silent = ", ".join(each.instance for each in registry.statistics() if not each.writable)
            raise DatabaseError(
                "TOPOLOGY_PARTIAL",
                f"{name} version {version}: not all of discovery took it ({silent}); who reaches "
                "only the rest does not follow, so do it again when that is back",
            )
    return new
