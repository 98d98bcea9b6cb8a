"""One database of a service: SQLAlchemy engines for reading and for writing.

All writes use one engine, whose connections lead to the current primary. At each checkout the
server is asked whether it accepts writes. So no transaction writes to a former primary that is
read-only, even with an outdated topology, and writes wait until the new primary is set. Reads use
other engines, one for each server, whose connections refuse to write.
"""

import random
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import structlog
from sqlalchemy import URL, Connection, Dialect, Engine, create_engine, event, make_url
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DisconnectionError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from fanout.adjunct.flavours import FLAVOURS, Position
from fanout.adjunct.routing import MEASURE_SECONDS, OwnWrites, Router, RoutingConfig
from fanout.adjunct.topology import DatabaseError, DatabaseRecord
from fanout.errors import ConfigError
from fanout.values.names import Endpoint

log = structlog.get_logger()

LOOK_SECONDS = 0.1
"""Interval between checks whether the primary accepts writes."""


class Database:
    """The engines of one database, made by `Databases`. Safe to use from all threads of a process.

    Raises:
        ConfigError: the URL is invalid, its driver is not installed, or an engine option is
            invalid.

    """

    def __init__(
        self, name: str, url: str | URL, config: RoutingConfig, options: Mapping[str, Any]
    ) -> None:
        self.name = name
        self._config = config
        try:
            self._url = make_url(url)
            self._flavour = FLAVOURS[self._url.get_backend_name()]
        except (ArgumentError, ValueError, KeyError):  # some messages repeat the URL
            raise ConfigError(
                f"database {name}: invalid URL: expected mysql+pymysql://USER:PASSWORD@/NAME"
                f" with a driver for {', '.join(FLAVOURS)}"
            ) from None
        self._options = {"pool_pre_ping": True, **options}
        self._changed = threading.Condition()  # guards the attributes below
        self._router = Router(name, config, random.Random())  # noqa: S311 - load balancing
        self._readers: dict[str, Engine] = {}
        self._writer = self._engine("", pool_pre_ping=False)  # checked at checkout
        event.listen(self._writer, "do_connect", self._connect_primary)
        event.listen(self._writer, "checkout", self._check_primary)

    def writer(self) -> Engine:
        """Return the engine of the primary, always the same one.

        Its `connect` waits up to `switch_wait_seconds` while the primary is read-only, then raises
        DatabaseError: PRIMARY_READ_ONLY; or TOPOLOGY_UNKNOWN, if discovery has no topology.
        """
        return self._writer

    def reader(self, after: OwnWrites | None = None) -> Engine:
        """Return the engine of a replica, or of the primary if no replica qualifies.

        Its connections refuse to write. `after` are earlier writes that the reader must see.
        Raises DatabaseError: TOPOLOGY_UNKNOWN.
        """
        with self._changed:
            return self._readers[self._router.read(time.monotonic(), after)]

    def own_writes(self, connection: Connection) -> OwnWrites:
        """Return the writes that a later reader must see; `connection` has just committed them.

        If the position cannot be queried, they are given by time.
        """
        position = None
        try:
            found = connection.exec_driver_sql(self._flavour.own_position).scalar_one()
            position = Position.parse(found)
        except (SQLAlchemyError, DatabaseError) as error:  # the commit has succeeded all the same
            log.warning("position_unknown", database=self.name, reason=self._reason(error))
        return OwnWrites(position, time.monotonic() + self._config.lag_seconds_max)

    @property
    def topology(self) -> DatabaseRecord | None:
        """The current topology; None before discovery was read."""
        return self._router.known

    def readable(self) -> set[str]:
        """Return the replicas, HOST:PORT, that qualify for reads now."""
        with self._changed:
            return set(self._router.readable(time.monotonic()))

    # Called by the thread that follows discovery.

    def is_measured(self) -> bool:
        """Return whether every server has been measured once, or there is none."""
        with self._changed:
            return self._router.is_measured()

    def adopt(self, topology: DatabaseRecord) -> None:
        """Adopt a topology if it is newer, and start a thread that measures each new server."""
        with self._changed:
            if not self._router.adopt(topology):
                return
            unused = [self._readers.pop(each) for each in self._readers.keys() - topology.servers]
            new = {each: self._reader(each) for each in topology.servers - self._readers.keys()}
            self._readers |= new
            self._changed.notify_all()
        for engine in unused:
            engine.dispose()
        for each in new.items():
            name = f"fanout-measure-{self.name}"
            threading.Thread(target=self._keep_measuring, args=each, name=name, daemon=True).start()
        shown = {"version": topology.version, "primary": topology.primary}
        log.info("topology_adopted", database=self.name, **shown, replicas=dict(topology.replicas))

    def close(self) -> None:
        """Close all connections; those of readers in use are closed when they are returned."""
        with self._changed:
            self._router.known = None
            unused = [self._writer, *self._readers.values()]
            self._readers.clear()
            self._changed.notify_all()
        for engine in unused:
            engine.dispose()

    def _keep_measuring(self, server: str, reader: Engine) -> None:
        """Measure a server while `reader` is its engine: at intervals, and at once after a change."""
        arguments = self._options.get("connect_args", {}) | self._flavour.timeouts(MEASURE_SECONDS)
        meter = self._engine(server, connect_args=arguments)
        while self._readers.get(server) is reader:
            self._measure(server, meter)
            with self._changed:
                if self._readers.get(server) is reader:
                    self._changed.wait(self._config.measure_interval_seconds)
        meter.dispose()

    def _measure(self, server: str, meter: Engine) -> None:
        known, now = self._router.known, time.monotonic()
        flavour, position, reason = self._flavour, None, ""
        is_primary = known is not None and server == known.primary
        asked = flavour.primary_position if is_primary else flavour.replica_position
        try:
            with meter.connect() as connection:
                # NULL in PostgreSQL if the server is not a replica: treated as the empty position.
                position = Position.parse(connection.exec_driver_sql(asked).scalar_one() or "")
        except Exception as error:  # noqa: BLE001 - drivers raise anything; the server did not answer
            reason = self._reason(error)
        if self._router.known is known:  # else its role may have changed meanwhile
            self._observe(server, position, now, reason)

    def _observe(self, server: str, position: Position | None, now: float, reason: str) -> None:
        with self._changed:
            is_news = self._router.observe(server, position, now)
        if is_news:
            log.warning(
                "database_server_recovered" if position else "database_server_lost",
                database=self.name,
                server=server,
                reason=reason,
            )

    # Connections.

    def _engine(self, server: str, **options: Any) -> Engine:
        """Return an engine for a server, or without one if a listener chooses the server."""
        where = Endpoint.parse(server) if server else None
        url = self._url.set(host=where.host, port=where.port) if where else self._url
        try:
            return create_engine(url, **{**self._options, **options})
        except (ArgumentError, ImportError, TypeError) as error:
            raise ConfigError(f"database {self.name}: {self._reason(error)}") from None

    def _reader(self, server: str) -> Engine:
        engine = self._engine(server)

        def take_back(_connection: Any, entry: ConnectionPoolEntry) -> None:
            if self._readers.get(server) is not engine:
                entry.invalidate()  # its pool was disposed of and would not close it

        def look(context: ExceptionContext) -> None:
            if context.is_disconnect or context.connection is None:
                reason = self._reason(context.original_exception)
                self._observe(server, None, time.monotonic(), reason)  # reads avoid it at once

        event.listen(engine, "connect", lambda new, _entry: self._flavour.only_read(new))
        event.listen(engine, "checkin", take_back)
        event.listen(engine, "handle_error", look)
        return engine

    def _connect_primary(
        self, dialect: Dialect, entry: ConnectionPoolEntry, args: Any, keywords: dict[str, Any]
    ) -> DBAPIConnection:
        """Connect, and wait until the primary accepts writes or another primary is set."""
        deadline = time.monotonic() + self._config.switch_wait_seconds
        while True:
            server = entry.info["server"] = self._router.topology.primary
            where = Endpoint.parse(server)
            asked = {**keywords, "host": where.host, "port": where.port}  # `keywords` is shared
            connection = dialect.connect(*args, **asked)
            while server == self._router.topology.primary:
                if self._flavour.takes_writes(connection):
                    return connection
                if time.monotonic() > deadline:
                    connection.close()
                    raise DatabaseError(
                        "PRIMARY_READ_ONLY",
                        f"database {self.name}: the primary {server} is read-only; if it was "
                        f"replaced, set the new one: fanout-sidecar replicas set {self.name}",
                    )
                with self._changed:
                    self._changed.wait(LOOK_SECONDS)
            connection.close()

    def _check_primary(self, connection: Any, entry: ConnectionPoolEntry, _proxy: Any) -> None:
        """Make SQLAlchemy reconnect if a connection no longer leads to a writable primary."""
        with suppress(self._writer.dialect.loaded_dbapi.Error):  # a dead connection
            is_primary = entry.info["server"] == self._router.topology.primary
            if is_primary and self._flavour.takes_writes(connection):
                return
        raise DisconnectionError

    def _reason(self, error: BaseException) -> str:
        """Return the message of a driver in one line, with the password masked."""
        said = " ".join(str(getattr(error, "orig", None) or error).split())
        return said.replace(self._url.password, "***") if self._url.password else said
