"""What MariaDB and PostgreSQL are asked, and how each driver is told to wait no longer."""

import math
from collections.abc import Callable
from typing import Any

import attrs
from sqlalchemy import URL

from fanout.errors import ConfigError


@attrs.frozen(kw_only=True)
class Flavour:
    """The statements of one kind of database."""

    primary_position: str
    """Where a primary is."""
    replica_position: str
    """How far a replica has come."""
    own_position: str
    """On the connection that wrote: a position that has what it committed last."""
    read_only: str
    """Makes all later transactions of a connection refuse to write."""
    timeouts: Callable[[float], dict[str, Any]]
    """Arguments of the driver's connect() so that it waits no longer than so many seconds."""


def _mariadb_timeouts(seconds: float) -> dict[str, Any]:
    whole = math.ceil(seconds)
    return {"connect_timeout": whole, "read_timeout": whole, "write_timeout": whole}


def _postgresql_timeouts(seconds: float) -> dict[str, Any]:
    milliseconds = math.ceil(seconds * 1000)
    return {
        "connect_timeout": max(2, math.ceil(seconds)),  # libpq takes less than 2 as 2
        "tcp_user_timeout": milliseconds,
        "options": f"-c statement_timeout={milliseconds}",
    }


_MARIADB = Flavour(
    primary_position="SELECT @@global.gtid_current_pos",
    replica_position="SELECT @@global.gtid_slave_pos",
    own_position="SELECT @@session.last_gtid",
    read_only="SET SESSION TRANSACTION READ ONLY",
    timeouts=_mariadb_timeouts,
)

_POSTGRESQL = Flavour(
    primary_position="SELECT pg_current_wal_lsn()::text",
    replica_position="SELECT pg_last_wal_replay_lsn()::text",
    own_position="SELECT pg_current_wal_insert_lsn()::text",
    read_only="SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    timeouts=_postgresql_timeouts,
)

_FLAVOURS = {
    **dict.fromkeys(
        ("mysql+pymysql", "mysql+mysqldb", "mariadb+pymysql", "mariadb+mysqldb"), _MARIADB
    ),
    **dict.fromkeys(("postgresql+psycopg", "postgresql+psycopg2"), _POSTGRESQL),
}


def flavour_of(name: str, url: URL) -> Flavour:
    """Return what to ask a database. Raises ConfigError for a driver that is not known here."""
    driver = f"{url.get_backend_name()}+{url.get_driver_name()}"
    if driver not in _FLAVOURS:
        raise ConfigError(
            f"database {name}: a URL that begins with {url.drivername}:// is not allowed; "
            f"known are {', '.join(_FLAVOURS)}"
        )
    return _FLAVOURS[driver]
