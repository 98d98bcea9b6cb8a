"""One database of a service: engines for its servers, and the gate before its primary.

A server is reached through engines of their own for writing and for reading, so that a read never
becomes a write, and so that it can be known when the last transaction on a primary has ended.
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import structlog
from sqlalchemy import (
    URL,
    Connection,
    Engine,
    ExceptionContext,
    create_engine,
    event,
    make_url,
    text,
)
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from fanout.adjunct.replicas.config import RoutingConfig
from fanout.adjunct.replicas.errors import DatabaseDown, PrimaryHeld
from fanout.adjunct.replicas.flavours import flavour_of
from fanout.adjunct.replicas.positions import Position, parse_position
from fanout.adjunct.replicas.router import OwnWrites, ReplicaStatistics, Router, Topology
from fanout.errors import ConfigError
from fanout.values import Endpoint

log = structlog.get_logger()


@attrs.frozen(kw_only=True)
class DatabaseStatistics:
    """What can be said of one database now."""

    name: str
    version: int  # of the topology; 0 before there is one
    primary: str  # empty while it is being replaced, or not known
    writing: int  # transactions on primaries, replaced ones included
    replicas: tuple[ReplicaStatistics, ...]


@attrs.define(eq=False)
class _Writer:
    """The engine of one primary, for as long as it is the primary."""

    endpoint: Endpoint
    engine: Engine
    open: set[ConnectionPoolEntry] = attrs.field(factory=set)  # connections handed out
    closed: bool = False  # replaced: hands out no more


class Database:
    """Gives out engines by intent. Safe to use from all threads of a process.

    Args:
        name: what discovery calls it.
        url: driver, user, password and database; host and port are those of the topology.
        config: how to choose.
        require_lease: raises LeaseLost when this process may not write any more.
        on_release: called, in any thread, when a transaction on a replaced primary has ended.
        engine_options: further arguments of SQLAlchemy's `create_engine`.

    Raises:
        ConfigError: the URL cannot be read, or its driver is not known.

    """

    def __init__(
        self,
        name: str,
        url: str | URL,
        config: RoutingConfig,
        *,
        require_lease: Callable[[], None] = lambda: None,
        on_release: Callable[[], None] = lambda: None,
        engine_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self._url = read_url(name, url)
        self._flavour = flavour_of(name, self._url)
        self._config = config
        self._require_lease = require_lease
        self._on_release = on_release
        self._engine_options = {"pool_pre_ping": True, **(engine_options or {})}
        self._router = Router(name, config)
        self._changed = threading.Condition()  # guards all below, and the router
        self._writers: list[_Writer] = []  # the last is the present one, if it is not closed
        self._readers: dict[Endpoint, Engine] = {}
        self._meters: dict[Endpoint, Engine] = {}
        self._told: dict[Endpoint, str] = {}  # why a server was last said to be down

    # For the service.

    def writer(self) -> Engine:
        """Return the engine of the primary.

        While the primary is being replaced this waits up to `hold_wait_seconds`.

        Raises:
            TopologyUnknown: discovery has not told of this database.
            PrimaryHeld: there is still no primary.
            LeaseLost: discovery has not heard of this process for too long.

        """
        deadline = time.monotonic() + self._config.hold_wait_seconds
        with self._changed:
            while True:
                try:
                    endpoint = self._router.primary()
                except PrimaryHeld:
                    if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                        raise
                else:
                    self._require_lease()
                    return self._writer(endpoint).engine

    def reader(self, after: OwnWrites | None = None) -> Engine:
        """Return the engine of a replica, or of the primary where no replica qualifies.

        Its connections refuse to write. `after` is what the reader wrote before.

        Raises:
            TopologyUnknown: discovery has not told of this database.
            PrimaryHeld: no replica qualifies, and the primary is being replaced.

        """
        with self._changed:
            endpoint = self._router.read(time.monotonic(), after)
            if endpoint not in self._readers:
                engine = self._readers[endpoint] = self._engine(endpoint, self._engine_options)
                event.listen(engine, "connect", self._make_read_only)
            return self._readers[endpoint]

    def is_writer(self, engine: Engine) -> bool:
        """Return whether an engine was given out for writing."""
        with self._changed:
            return any(each.engine is engine for each in self._writers)

    def own_writes(self, connection: Connection) -> OwnWrites:
        """Return what a later reader must find, from the connection that has just committed.

        Where the position cannot be had, it is by time.
        """
        position = None
        try:
            position = parse_position(
                connection.exec_driver_sql(self._flavour.own_position).scalar_one()
            )
        except SQLAlchemyError as error:  # the write has been done all the same
            log.warning("position_unknown", database=self.name, reason=self._reason(error))
        return OwnWrites(position, time.monotonic() + self._config.own_writes_seconds)

    def statistics(self) -> DatabaseStatistics:
        """Return the present state."""
        with self._changed:
            topology = self._router.known
            return DatabaseStatistics(
                name=self.name,
                version=topology.version if topology else 0,
                primary=str(topology.primary or "") if topology else "",
                writing=sum(len(writer.open) for writer in self._writers),
                replicas=self._router.statistics(time.monotonic()),
            )

    # For whoever follows discovery and measures.

    def adopt(self, topology: Topology) -> bool:
        """Take a newer topology; return whether it was one. Replaced primaries are closed."""
        with self._changed:
            if not self._router.adopt(topology):
                return False
            for writer in self._writers:
                writer.closed = writer.closed or writer.endpoint != topology.primary
            self._changed.notify_all()
        log.info(
            "topology_adopted",
            database=self.name,
            version=topology.version,
            primary=str(topology.primary or ""),
            replicas=[str(each) for each in topology.replicas],
        )
        return True

    @property
    def seen(self) -> int:
        """The version of the topology that holds here: nothing is written to earlier primaries."""
        with self._changed:
            if self._router.known is None or any(w.closed and w.open for w in self._writers):
                return 0
            return self._router.known.version

    @property
    def measured(self) -> bool:
        """Whether every server has been measured once, or discovery tells of none."""
        with self._changed:
            return self._router.known is None or self._router.measured

    def servers(self) -> tuple[Endpoint, ...]:
        """Return whom to measure: first the primary, then the replicas."""
        with self._changed:
            known = self._router.known
            if known is None:
                return ()
            return tuple(
                dict.fromkeys((*([known.primary] if known.primary else ()), *known.replicas))
            )

    def measure(self, endpoint: Endpoint) -> None:
        """Ask one server how far it has come. It waits for the server; run it in a thread."""
        with self._changed:
            known = self._router.known
            is_primary = known is not None and endpoint == known.primary
        flavour = self._flavour
        asked = flavour.primary_position if is_primary else flavour.replica_position
        began = time.monotonic()
        try:
            with self._meter(endpoint).connect() as connection:
                found = connection.execute(text(asked)).scalar_one()
            if found is None:
                raise DatabaseDown("it is no replica")
            self.observe(endpoint, parse_position(found), began)
        except Exception as error:  # noqa: BLE001 - whatever a driver raises, it did not answer
            self.observe(endpoint, None, began, self._reason(error))

    def observe(
        self, endpoint: Endpoint, position: Position | None, now: float, reason: str = ""
    ) -> None:
        """Note how far a server has come; without a position, why not. Changes are logged."""
        with self._changed:
            self._router.observe(endpoint, position, now)
            told, self._told[endpoint] = self._told.get(endpoint, ""), reason
        if bool(told) != bool(reason):
            event_name = "database_server_lost" if reason else "database_server_recovered"
            log.warning(event_name, database=self.name, server=str(endpoint), reason=reason or told)

    def sweep(self, *, everything: bool = False) -> None:
        """Close the idle connections to servers that are no longer used, or to all of them."""
        with self._changed:
            used = () if everything else self.servers()
            gone = [w for w in self._writers if everything or (w.closed and not w.open)]
            self._writers = [writer for writer in self._writers if writer not in gone]
            engines = [writer.engine for writer in gone]
            for table in (self._readers, self._meters):
                engines += [table.pop(endpoint) for endpoint in set(table) - set(used)]
        for engine in engines:
            engine.dispose()

    # Engines.

    def _writer(self, endpoint: Endpoint) -> _Writer:
        for writer in self._writers:
            if not writer.closed:
                return writer
        writer = _Writer(endpoint, self._engine(endpoint, self._engine_options))
        self._writers.append(writer)

        def hand_out(_dbapi: Any, entry: ConnectionPoolEntry, _fairy: Any) -> None:
            # The last moment to refuse: whoever asked for the engine may have waited since.
            self._require_lease()
            with self._changed:
                if writer.closed:
                    raise PrimaryHeld(
                        f"database {self.name}: {endpoint} is its primary no more; try again"
                    )
                writer.open.add(entry)

        def take_back(_dbapi: Any, entry: ConnectionPoolEntry) -> None:
            with self._changed:
                writer.open.discard(entry)
                released = writer.closed
            if released:
                self._on_release()

        event.listen(writer.engine, "checkout", hand_out)
        event.listen(writer.engine, "checkin", take_back)
        event.listen(writer.engine, "before_cursor_execute", lambda *_: self._require_lease())
        event.listen(writer.engine, "commit", lambda _connection: self._require_lease())
        return writer

    def _engine(self, endpoint: Endpoint, options: Mapping[str, Any]) -> Engine:
        try:
            url = self._url.set(host=endpoint.host, port=endpoint.port)
            engine = create_engine(url, **options)
        except (ArgumentError, ImportError, TypeError) as error:
            raise ConfigError(f"database {self.name}: {self._reason(error)}") from None

        def explain(context: ExceptionContext) -> DatabaseDown | None:
            connecting = context.connection is None
            # A connection from before the server was restarted says nothing of the server now.
            if context.is_pre_ping or not (connecting or context.is_disconnect):
                return None
            reason = self._reason(context.original_exception)
            self.observe(endpoint, None, time.monotonic(), reason)  # reads go elsewhere at once
            if not connecting:
                return None
            return DatabaseDown(
                f"database {self.name}: {endpoint} cannot be connected to: {reason}"
            )

        event.listen(engine, "handle_error", explain, retval=True)
        return engine

    def _meter(self, endpoint: Endpoint) -> Engine:
        with self._changed:
            if endpoint not in self._meters:
                timeouts = self._flavour.timeouts(self._config.measure_timeout_seconds)
                options = {"connect_args": timeouts, "isolation_level": "AUTOCOMMIT"}
                self._meters[endpoint] = self._engine(endpoint, options)
            return self._meters[endpoint]

    def _make_read_only(self, dbapi_connection: Any, _entry: ConnectionPoolEntry) -> None:
        cursor = dbapi_connection.cursor()
        cursor.execute(self._flavour.read_only)
        cursor.close()
        dbapi_connection.commit()

    def _reason(self, error: BaseException) -> str:
        """Return what a driver says, in one line and without the password."""
        said = " ".join(str(getattr(error, "orig", None) or error).split())
        return said.replace(self._url.password, "***") if self._url.password else said


def read_url(name: str, url: str | URL) -> URL:
    """Read SQLAlchemy's URL. Raises ConfigError; the message does not repeat it."""
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigError(
            f"database {name}: its URL cannot be read; write mysql+pymysql://USER:PASSWORD@/DATABASE"
        ) from None
