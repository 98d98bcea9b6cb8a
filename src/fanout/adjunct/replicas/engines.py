"""Makes SQLAlchemy's engines for the servers of one database, with errors a person understands."""

import math
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any, TypeAlias

import attrs
from sqlalchemy import URL, Dialect, Engine, create_engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import ConnectionPoolEntry

from fanout.adjunct.replicas.errors import DatabaseDown
from fanout.errors import ConfigError
from fanout.values import Endpoint


@attrs.frozen(kw_only=True)
class Flavour:
    """What one kind of database is asked, and how its drivers are told to wait no longer."""

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


_MARIADB = Flavour(
    primary_position="SELECT @@global.gtid_current_pos",
    replica_position="SELECT @@global.gtid_slave_pos",
    own_position="SELECT @@session.last_gtid",
    read_only="SET SESSION TRANSACTION READ ONLY",
    timeouts=lambda seconds: dict.fromkeys(
        ("connect_timeout", "read_timeout", "write_timeout"), math.ceil(seconds)
    ),
)

_POSTGRESQL = Flavour(
    primary_position="SELECT pg_current_wal_lsn()::text",
    replica_position="SELECT pg_last_wal_replay_lsn()::text",
    own_position="SELECT pg_current_wal_insert_lsn()::text",
    read_only="SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    timeouts=lambda seconds: {
        "connect_timeout": max(2, math.ceil(seconds)),  # libpq takes less than 2 as 2
        "tcp_user_timeout": math.ceil(seconds * 1000),
        "options": f"-c statement_timeout={math.ceil(seconds * 1000)}",
    },
)

FLAVOURS = {
    "mysql+pymysql": _MARIADB,
    "mysql+mysqldb": _MARIADB,
    "mariadb+pymysql": _MARIADB,
    "mariadb+mysqldb": _MARIADB,
    "postgresql+psycopg": _POSTGRESQL,
    "postgresql+psycopg2": _POSTGRESQL,
}


Choose: TypeAlias = Callable[[ConnectionPoolEntry], str]
"""Returns HOST:PORT of the server that a connection is to lead to."""


def parse_url(name: str, url: str | URL) -> tuple[URL, Flavour]:
    """Read the URL of a database. Raises ConfigError, without the password."""
    try:
        found = make_url(url)
    except (ArgumentError, ValueError):  # the message repeats the URL
        raise ConfigError(
            f"database {name}: its URL cannot be read; write "
            "mysql+pymysql://USER:PASSWORD@/DATABASE"
        ) from None
    driver = f"{found.get_backend_name()}+{found.get_driver_name()}"
    if driver not in FLAVOURS:
        raise ConfigError(
            f"database {name}: a URL that begins with {found.drivername}:// is not allowed; "
            f"known are {', '.join(FLAVOURS)}"
        )
    return found, FLAVOURS[driver]


def reason_of(error: BaseException, url: URL) -> str:
    """Return what a driver says, in one line and without the password."""
    said = " ".join(str(getattr(error, "orig", None) or error).split())
    return said.replace(url.password, "***") if url.password else said


def _run(connection: DBAPIConnection, statement: str) -> None:
    try:
        with closing(connection.cursor()) as cursor:
            cursor.execute(statement)
        connection.commit()
    except BaseException:
        connection.close()
        raise


def make_engine(
    name: str,
    url: URL,
    options: Mapping[str, Any],
    *,
    choose: Choose,
    on_lost: Callable[[str, str], None],
    statement: str = "",
) -> Engine:
    """Return an engine whose connections lead to what `choose` returns as each is made.

    Each says where it leads: its pool entry's `info` has it under `server`.

    Args:
        name: of the database, for messages.
        url: driver, user, password and database; host and port do not count.
        options: further arguments of SQLAlchemy's `create_engine`.
        choose: is called with the pool's entry.
        on_lost: told of a server that cannot be connected to, and why; then DatabaseDown is raised.
        statement: what each connection begins with.

    Raises:
        ConfigError: the driver is not installed, or an option is not allowed.

    """
    try:
        engine = create_engine(url, **options)
    except (ArgumentError, ImportError, TypeError) as error:
        raise ConfigError(f"database {name}: {reason_of(error, url)}") from None

    def connect(
        dialect: Dialect, entry: ConnectionPoolEntry, args: Any, keywords: dict[str, Any]
    ) -> Any:
        server = entry.info["server"] = choose(entry)
        endpoint = Endpoint.parse(server)
        where = {"host": endpoint.host, "port": endpoint.port}
        try:
            connection = dialect.connect(*args, **{**keywords, **where})
            if statement:
                _run(connection, statement)
        except dialect.loaded_dbapi.Error as error:
            reason = reason_of(error, url)
            on_lost(server, reason)
            raise DatabaseDown(
                f"database {name}: {server} cannot be connected to: {reason}"
            ) from None
        return connection

    event.listen(engine, "do_connect", connect)
    return engine
