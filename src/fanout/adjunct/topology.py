"""The record of a database in discovery, and functions that read and set it.

Discovery does not fence a replaced primary. The database does, by being read-only: see
`fanout.adjunct.database`.
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
    """An error of a database; docs/replicas.md lists the codes."""


@attrs.frozen(kw_only=True)
class DatabaseRecord:
    """The servers of one database, each HOST:PORT. The record has no lease."""

    cluster: str
    database: str
    version: int  # milliseconds since 1970, or more; the highest wins
    primary: str
    replicas: Mapping[str, int]  # with weights; a replica of weight 0 gets no reads

    lease_seconds = inf
    incarnation = 1
    gone = False

    @property
    def id(self) -> str:
        """The database's name."""
        return self.database

    @property
    def stamp(self) -> tuple[int, int]:
        """Sort key of the records of one database."""
        return (self.incarnation, self.version)

    @property
    def servers(self) -> set[str]:
        """The primary and all replicas."""
        return {self.primary, *self.replicas}


def _read_server(value: Any) -> str:
    """Return HOST:PORT in its canonical form."""
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
    """Return the record of a database from discovery.

    Raises:
        DatabaseError: TOPOLOGY_UNKNOWN, discovery has no such database.
        RegistryUnavailable: no discovery instance can be read.

    """
    async with open_watch(config, (DATABASE,), world=world) as (_, watch):
        known = watch.members(DATABASE)
        if name not in known:
            names = ", ".join(sorted(known)) or "none"
            message = f"no database {name} in discovery; known: {names}"
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
    """Set the primary and the replicas (HOST:PORT -> weight 0 to 1000) of a database.

    All processes that route to it switch at once. Of two concurrent calls the later wins.

    Raises:
        DatabaseError: TOPOLOGY_PARTIAL, not every discovery instance accepted the record.
        RegistryUnavailable: no discovery instance can be read.
        ConfigError: a name, server or weight is invalid, or the primary is also a replica.

    """
    world = world or fleet_world(config)
    new = DatabaseRecord(
        cluster=config.cluster, database=name, version=0, primary=primary, replicas=replicas
    )
    try:
        new = DATABASE.decode(DATABASE.encode(new))
    except RemoteProtocolError as error:
        why = str(error).removeprefix("field ").replace(" of a record", "", 1)
        raise ConfigError(f"invalid topology of {mask(name)}: {why}") from None
    if new.primary in new.replicas:
        raise ConfigError(f"{new.primary} is given twice; give the primary and each replica once")
    async with open_watch(config, (DATABASE,), world=world) as (registry, watch):
        with trio.move_on_after(config.timeout_seconds):
            await registry.wait_connected()
        before = watch.members(DATABASE).get(name)
        # The clock makes it higher than any version from before discovery was wiped.
        version = max(before.version + 1 if before else 0, world.wall_milliseconds())
        new = attrs.evolve(new, version=version)
        if await registry.write(new) < len(config.discovery):
            silent = ", ".join(each.instance for each in registry.statistics() if not each.writable)
            raise DatabaseError(
                "TOPOLOGY_PARTIAL",
                f"{name} version {version}: some discovery instances did not accept it ({silent}); "
                "processes that reach only these do not switch, so repeat it when they are back",
            )
    return new
