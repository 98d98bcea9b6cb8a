"""The two kinds of records of the routing: what a database consists of, and who has seen it.

A database's record is written by whoever changes it, and stays. Every process that routes has a
record of its own, with a lease: by it, whoever replaces a primary knows whom to wait for.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import attrs

from fanout.adjunct.replicas.router import Topology
from fanout.config import mask
from fanout.errors import ConfigError, RemoteProtocolError
from fanout.values import NAME, PORT_MAX, Endpoint
from fanout.wire.records import LEASE_SECONDS_MAX, RecordKind

RECORD_BYTES_MAX = 65_536
REPLICAS_MAX = 256
DATABASES_MAX = 256
WEIGHT_MAX = 1000
_NUMBER_MAX = 2**63

_T = TypeVar("_T")


@attrs.frozen(kw_only=True)
class DatabaseRecord:
    """The servers of one database. The highest version counts."""

    cluster: str
    database: str
    version: int
    primary: str  # HOST:PORT; empty while it is being replaced
    former: str = ""  # the primary before, while there is none
    replicas: Mapping[str, int]  # HOST:PORT -> weight

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

    @property
    def topology(self) -> Topology:
        """The same for the router."""
        return Topology(
            version=self.version,
            primary=Endpoint.parse(self.primary) if self.primary else None,
            replicas={Endpoint.parse(each): weight for each, weight in self.replicas.items()},
        )


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


def server(text: str) -> str:
    """Return the one way to write HOST:PORT. Raises ConfigError."""
    try:
        endpoint = Endpoint() if re.search(r"[/@\s]", text) else Endpoint.parse(text)
    except ConfigError:
        endpoint = Endpoint()
    if not endpoint.port:
        raise ConfigError(f"{mask(text)} is not HOST:PORT with a port of 1 to {PORT_MAX}")
    return str(endpoint)


def weighted_server(text: str) -> tuple[str, int]:
    """Read HOST:PORT or HOST:PORT=WEIGHT. Raises ConfigError."""
    address, equals, weight = text.partition("=")
    if equals and not (weight.isascii() and weight.isdigit() and int(weight[:9]) <= WEIGHT_MAX):
        raise ConfigError(f"{mask(text)} has a weight that is not a whole number 0 to {WEIGHT_MAX}")
    return server(address), int(weight) if equals else 1


def database_name(text: str) -> str:
    """Return the name of a database. Raises ConfigError for what is none."""
    if not NAME.fullmatch(text):
        raise ConfigError(
            f"{mask(text)} is not allowed; use 1 to 64 letters, digits, '.', '_' or '-', a letter or "
            "digit first"
        )
    return text


def _name(value: Any) -> str:
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise ValueError("not a name")
    return value


def _number(value: Any, most: int = _NUMBER_MAX) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError("not a whole number, or too large")
    return value


def _server(value: Any) -> str:
    return server(value if isinstance(value, str) else "")


def _table(value: Any, key: Callable[[Any], str], most: int, number_max: int) -> dict[str, int]:
    if not isinstance(value, dict) or len(value) > most:
        raise ValueError("not a table, or too long")
    return {key(name): _number(number, number_max) for name, number in value.items()}


def _database(data: dict[str, Any]) -> DatabaseRecord:
    return DatabaseRecord(
        cluster=_name(data["cluster"]),
        database=_name(data["database"]),
        version=_number(data["version"]),
        primary=_server(data["primary"]) if data["primary"] else "",
        former=_server(data["former"]) if data.get("former") else "",
        replicas=_table(data["replicas"], _server, REPLICAS_MAX, WEIGHT_MAX),
    )


def _router(data: dict[str, Any]) -> RouterRecord:
    lease_seconds = data["lease_seconds"]
    if type(lease_seconds) not in (int, float) or not 0 < lease_seconds <= LEASE_SECONDS_MAX:
        raise ValueError("not a lease")
    return RouterRecord(
        cluster=_name(data["cluster"]),
        router=_name(data["router"]),
        version=_number(data["version"]),
        lease_seconds=float(lease_seconds),
        seen=_table(data["seen"], _name, DATABASES_MAX, _NUMBER_MAX),
        gone=data.get("gone") is True,
    )


def _decoder(read: Callable[[dict[str, Any]], _T]) -> Callable[[bytes], _T]:
    def decode(raw: bytes) -> _T:
        if len(raw) > RECORD_BYTES_MAX:
            raise RemoteProtocolError(f"a record of {len(raw)} bytes is over {RECORD_BYTES_MAX}")
        try:
            return read(json.loads(raw))
        except KeyError as error:
            raise RemoteProtocolError(f"a record without {error}") from None
        except (ValueError, TypeError, RecursionError, ConfigError) as error:
            raise RemoteProtocolError(f"a record cannot be read: {str(error)[:200]}") from None

    return decode


DATABASE: RecordKind[Any] = RecordKind("database", DatabaseRecord, _decoder(_database))
ROUTER: RecordKind[Any] = RecordKind("router", RouterRecord, _decoder(_router))
