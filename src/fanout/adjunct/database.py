"""One database of a service: SQLAlchemy's engines by intent.

All writing goes through one engine, whose connections lead to whichever server is the primary.
Each time one is handed out the server is asked whether it takes writes. So a former primary that
is read-only is written to by nobody, whatever they believe, and writes wait until the new one is
named. Reading has engines of its own, one for each server, so that a read never becomes a write.
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
"""Between two looks whether a primary takes writes by now."""


class Database:
    """Gives out engines by intent. Made by `Databases`; safe to use from all threads of a process.

    Raises:
        ConfigError: the URL cannot be read, its driver is not installed, or an option is not
            allowed.

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
                f"database {name}: its URL is not allowed; write mysql+pymysql://USER:PASSWORD@/NAME"
                f" with a driver for {', '.join(FLAVOURS)}"
            ) from None
        self._options = {"pool_pre_ping": True, **options}
        self._changed = threading.Condition()  # guards all below
        self._router = Router(name, config, random.Random())  # noqa: S311 - who is asked first
        self._readers: dict[str, Engine] = {}
        self._writer = self._engine("", pool_pre_ping=False)  # it is asked more than that
        event.listen(self._writer, "do_connect", self._connect_primary)
        event.listen(self._writer, "checkout", self._check_primary)

    def writer(self) -> Engine:
        """Return the engine of the primary, always the same one.

        Its `connect` waits up to `switch_wait_seconds` while the primary is read-only, then raises
        DatabaseError: PRIMARY_READ_ONLY; or TOPOLOGY_UNKNOWN, before discovery told of any.
        """
        return self._writer

    def reader(self, after: OwnWrites | None = None) -> Engine:
        """Return the engine of a replica, or of the primary where no replica qualifies.

        Its connections refuse to write. `after` is what the reader wrote before. Raises
        DatabaseError: TOPOLOGY_UNKNOWN.
        """
        with self._changed:
            return self._readers[self._router.read(time.monotonic(), after)]

    def own_writes(self, connection: Connection) -> OwnWrites:
        """Return what a later reader must find, from the connection that has just committed.

        Where the position cannot be had, it is by time.
        """
        position = None
        try:
            found = connection.exec_driver_sql(self._flavour.own_position).scalar_one()
            position = Position.parse(found)
        except (SQLAlchemyError, DatabaseError) as error:  # the write has been done all the same
            log.warning("position_unknown", database=self.name, reason=self._reason(error))
        return OwnWrites(position, time.monotonic() + self._config.lag_seconds_max)

    @property
    def topology(self) -> DatabaseRecord | None:
        """What discovery told last; None before it did."""
        return self._router.known

    def readable(self) -> set[str]:
        """Return the replicas, HOST:PORT, that qualify for any read now."""
        with self._changed:
            return set(self._router.readable(time.monotonic()))

    # For whoever follows discovery.

    def is_measured(self) -> bool:
        """Return whether every server has been measured once, or discovery tells of none."""
        with self._changed:
            return self._router.is_measured()

    def adopt(self, topology: DatabaseRecord) -> None:
        """Take a topology, if it is newer, and have a thread measure each new server."""
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
        """Close all connections, those that read and are in use when they are given back."""
        with self._changed:
            self._router.known = None
            unused = [self._writer, *self._readers.values()]
            self._readers.clear()
            self._changed.notify_all()
        for engine in unused:
            engine.dispose()

    def _keep_measuring(self, server: str, reader: Engine) -> None:
        """Ask a server how far it has come, as long as `reader` leads there; at changes at once."""
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
                # PostgreSQL has none where it is no replica: as far as nobody needs to be.
                position = Position.parse(connection.exec_driver_sql(asked).scalar_one() or "")
        except Exception as error:  # noqa: BLE001 - whatever a driver raises, it did not answer
            reason = self._reason(error)
        if self._router.known is known:  # else it may have been asked for what it is no more
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
        """Return an engine whose connections lead to a server, or to whatever a listener says."""
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
                entry.invalidate()  # its pool is gone, and would not close it

        def look(context: ExceptionContext) -> None:
            if context.is_disconnect or context.connection is None:
                reason = self._reason(context.original_exception)
                self._observe(server, None, time.monotonic(), reason)  # reads go elsewhere at once

        event.listen(engine, "connect", lambda new, _entry: self._flavour.only_read(new))
        event.listen(engine, "checkin", take_back)
        event.listen(engine, "handle_error", look)
        return engine

    def _connect_primary(
        self, dialect: Dialect, entry: ConnectionPoolEntry, args: Any, keywords: dict[str, Any]
    ) -> DBAPIConnection:
        """Connect, and wait until the primary takes writes or another one is named."""
        deadline = time.monotonic() + self._config.switch_wait_seconds
        while True:
            server = entry.info["server"] = self._router.topology.primary
            where = Endpoint.parse(server)
            asked = {**keywords, "host": where.host, "port": where.port}  # others share `keywords`
            connection = dialect.connect(*args, **asked)
            while server == self._router.topology.primary:
                if self._flavour.takes_writes(connection):
                    return connection
                if time.monotonic() > deadline:
                    connection.close()
                    raise DatabaseError(
                        "PRIMARY_READ_ONLY",
                        f"database {self.name}: its primary {server} is read-only; where it is "
                        f"replaced, name the new one: fanout-sidecar replicas set {self.name}",
                    )
                with self._changed:
                    self._changed.wait(LOOK_SECONDS)
            connection.close()

    def _check_primary(self, connection: Any, entry: ConnectionPoolEntry, _proxy: Any) -> None:
        """Have SQLAlchemy connect anew where a connection leads to no primary any more."""
        with suppress(self._writer.dialect.loaded_dbapi.Error):  # it is dead
            is_primary = entry.info["server"] == self._router.topology.primary
            if is_primary and self._flavour.takes_writes(connection):
                return
        raise DisconnectionError

    def _reason(self, error: BaseException) -> str:
        """Return what a driver says, in one line and without the password."""
        said = " ".join(str(getattr(error, "orig", None) or error).split())
        return said.replace(self._url.password, "***") if self._url.password else said
