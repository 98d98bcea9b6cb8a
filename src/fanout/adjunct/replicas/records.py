"""The two kinds of records of the routing: what a database consists of, and who has seen it.

A database's record is written by whoever changes it, and stays. Every process that routes has a
record of its own, with a lease: by it, whoever replaces a primary knows whom to wait for.
"""

from collections.abc import Mapping
from typing import Any

import attrs

from fanout.config.readers import read_count, read_fixed_endpoint
from fanout.wire.records import RecordKind, decode_fields, read_name, read_numbers

RECORD_BYTES_MAX = 65_536
REPLICAS_MAX = 256
WEIGHT_MAX = 1000


@attrs.frozen(kw_only=True)
class DatabaseRecord:
    """The servers of one database. The highest version counts."""

    cluster: str
    database: str
    version: int
    primary: str  # HOST:PORT; empty while it is being replaced: nobody may write
    former: str = ""  # the primary before, while there is none
    replicas: Mapping[str, int]  # HOST:PORT -> weight; 0 takes no reads

    lease_seconds = float("inf")
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

    def replaces_primary(self, before: "DatabaseRecord | None") -> bool:
        """Whether it names another primary than the last one that was named."""
        former = (before.primary, before.former) if before else ()
        return bool(former and self.primary and self.primary not in former)

    @property
    def servers(self) -> set[str]:
        """All of them."""
        return {*self.replicas, *([self.primary] if self.primary else [])}


@attrs.frozen(kw_only=True)
class RouterRecord:
    """What a process that routes tells discovery about itself. One writer; newest wins."""

    cluster: str
    router: str
    version: int
    lease_seconds: float
    seen: Mapping[str, int]  # database -> version since which it writes to no earlier primary
    gone: bool = False

    incarnation = 1

    @property
    def id(self) -> str:
        """The router's name."""
        return self.router

    @property
    def stamp(self) -> tuple[int, int]:
        """Order of the records of one router."""
        return (self.incarnation, self.version)


_read_weight = read_count(0, WEIGHT_MAX)


def _read_server(value: Any) -> str:
    """Return the one way to write HOST:PORT."""
    return str(read_fixed_endpoint(value))


def _read_primary(value: Any) -> str:
    return "" if value == "" else _read_server(value)


def _read_replicas(value: Any) -> dict[str, int]:
    if not isinstance(value, dict) or len(value) > REPLICAS_MAX:
        raise ValueError("not a table of weights by server, or too long")
    return {_read_server(server): _read_weight(weight) for server, weight in value.items()}


_READERS = {
    "database": read_name,
    "router": read_name,
    "primary": _read_primary,
    "former": _read_primary,
    "replicas": _read_replicas,
    "seen": read_numbers,
}


def _decode_database(raw: bytes) -> DatabaseRecord:
    return decode_fields(DatabaseRecord, raw, RECORD_BYTES_MAX, _READERS)


def _decode_router(raw: bytes) -> RouterRecord:
    return decode_fields(RouterRecord, raw, RECORD_BYTES_MAX, _READERS)


DATABASE: RecordKind[Any] = RecordKind("database", DatabaseRecord, _decode_database)
ROUTER: RecordKind[Any] = RecordKind("router", RouterRecord, _decode_router)
