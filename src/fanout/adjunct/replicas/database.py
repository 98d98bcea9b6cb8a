"""One database of a service: engines by intent, and the gate before its primary.

All writing goes through one engine, whose connections lead to whichever server is the primary.
Each time one is handed out it is looked whether it still does, so that at no moment an old primary
can be begun to be written to; and it is counted, so that it is known when the last transaction
there has ended. Reading has engines of its own, one for each server, so that a read never becomes
a write.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import attrs
import structlog
from sqlalchemy import URL, Connection, Engine, event, text
from sqlalchemy.exc import DisconnectionError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry, Pool

from fanout.adjunct.replicas.config import RoutingConfig
from fanout.adjunct.replicas.engines import Engines
from fanout.adjunct.replicas.errors import DatabaseDown, PrimaryHeld
from fanout.adjunct.replicas.positions import Position, parse_position
from fanout.adjunct.replicas.router import OwnWrites, ReplicaStatistics, Router, Topology
from fanout.errors import FanoutError
from fanout.values import Endpoint

log = structlog.get_logger()

OLD_POOLS_MAX = 8
"""Replaced primaries whose connections are closed when they come back."""

_T = TypeVar("_T")


@attrs.frozen(kw_only=True)
class DatabaseStatistics:
    """What can be said of one database now."""

    name: str
    version: int  # of the topology; 0 before there is one
    primary: str  # empty while it is being replaced, or not known
    writing: int  # connections to primaries that are in use, replaced ones included
    replicas: tuple[ReplicaStatistics, ...]


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
        self._config = config
        self._require_lease = require_lease
        self._on_release = on_release
        self._engines = Engines(name, url, engine_options or {}, self._lose)
        self._router = Router(name, config)
        self._changed = threading.Condition()  # guards all below, and the router
        self._writing: dict[ConnectionPoolEntry, Endpoint] = {}  # handed out, not taken back yet
        self._writer = self._make_writer()
        self._swept: Endpoint | None = None  # the primary when idle connections were last closed
        self._old_pools: deque[Pool] = deque(maxlen=OLD_POOLS_MAX)
        self._readers: dict[Endpoint, Engine] = {}
        self._meters: dict[Endpoint, Engine] = {}
        self._told: dict[Endpoint, str] = {}  # why a server was last said to be down

    # For the service.

    def writer(self) -> Engine:
        """Return the engine of the primary, always the same one.

        Its `connect` waits up to `hold_wait_seconds` while the primary is being replaced.

        Raises, when it is connected to:
            TopologyUnknown: discovery has not told of this database.
            PrimaryHeld: there is still no primary.
            LeaseLost: discovery has not heard of this process for too long; also at each
                statement and commit.
            DatabaseDown: the primary cannot be connected to.

        """
        return self._writer

    def reader(self, after: OwnWrites | None = None) -> Engine:
        """Return the engine of a replica, or of the primary where no replica qualifies.

        Its connections refuse to write. `after` is what the reader wrote before. Where neither a
        replica nor a primary is to be had this waits as `writer` does.

        Raises:
            TopologyUnknown: discovery has not told of this database.
            PrimaryHeld: no replica qualifies, and there is still no primary.

        """
        with self._changed:
            endpoint = self._unheld(lambda: self._router.read(time.monotonic(), after))
            if endpoint not in self._readers:
                self._readers[endpoint] = self._engines.reading(endpoint)
            return self._readers[endpoint]

    def own_writes(self, connection: Connection) -> OwnWrites:
        """Return what a later reader must find, from the connection that has just committed.

        Where the position cannot be had, it is by time.
        """
        position = None
        try:
            position = parse_position(
                connection.exec_driver_sql(self._engines.flavour.own_position).scalar_one()
            )
        except (SQLAlchemyError, FanoutError) as error:  # the write has been done all the same
            log.warning("position_unknown", database=self.name, reason=self._engines.reason(error))
        return OwnWrites(position, time.monotonic() + self._config.own_writes_seconds)

    def statistics(self) -> DatabaseStatistics:
        """Return the present state."""
        with self._changed:
            topology = self._router.known
            return DatabaseStatistics(
                name=self.name,
                version=topology.version if topology else 0,
                primary=str(topology.primary or "") if topology else "",
                writing=len(self._writing),
                replicas=self._router.statistics(time.monotonic()),
            )

    # For whoever follows discovery and measures.

    def adopt(self, topology: Topology) -> bool:
        """Take a newer topology; return whether it was one."""
        with self._changed:
            if not self._router.adopt(topology):
                return False
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
            known = self._router.known
            if known is None or any(each != known.primary for each in self._writing.values()):
                return 0
            return known.version

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
        flavour = self._engines.flavour
        asked = flavour.primary_position if is_primary else flavour.replica_position
        began = time.monotonic()
        try:
            with self._meter(endpoint).connect() as connection:
                found = connection.execute(text(asked)).scalar_one()
            if found is None:
                raise DatabaseDown("it is no replica")
            self.observe(endpoint, parse_position(found), began)
        except Exception as error:  # noqa: BLE001 - whatever a driver raises, it did not answer
            self.observe(endpoint, None, began, self._engines.reason(error))

    def observe(
        self, endpoint: Endpoint, position: Position | None, now: float, reason: str = ""
    ) -> None:
        """Note how far a server has come; without a position, why not. Changes are logged."""
        with self._changed:
            self._router.observe(endpoint, position, now)
            told, self._told[endpoint] = self._told.get(endpoint, ""), reason
        if bool(told) != bool(reason):
            log.warning(
                "database_server_lost" if reason else "database_server_recovered",
                database=self.name,
                server=str(endpoint),
                reason=reason or told,
            )

    def sweep(self) -> None:
        """Close the connections to servers that are no longer used."""
        with self._changed:
            used = self.servers()
            unused = [
                table.pop(endpoint)
                for table in (self._readers, self._meters)
                for endpoint in set(table) - set(used)
            ]
            known = self._router.known
            before = self._swept
            self._swept = (known and known.primary) or before
        for engine in unused:
            self._engines.retire(engine)
        if before not in (None, self._swept):
            self._old_pools.append(self._writer.pool)
            self._writer.dispose()
        for pool in self._old_pools:  # what was in use then has come back there meanwhile
            pool.dispose()

    def close(self) -> None:
        """Close all connections, those in use when they are given back."""
        with self._changed:
            engines = [self._writer, *self._readers.values(), *self._meters.values()]
        for engine in engines:
            self._engines.retire(engine)

    # The gate.

    def _make_writer(self) -> Engine:
        def primary() -> Endpoint:
            with self._changed:
                return self._unheld(self._router.primary)

        def hand_out(_dbapi: Any, entry: ConnectionPoolEntry, _fairy: Any) -> None:
            with self._changed:
                present = self._unheld(self._router.primary)
                self._require_lease()
                if entry.info["primary"] != present:
                    raise DisconnectionError  # SQLAlchemy then connects again
                self._writing[entry] = present

        def take_back(_dbapi: Any, entry: ConnectionPoolEntry) -> None:
            with self._changed:
                left = self._writing.pop(entry, None)
                replaced = left is not None and left != self._router.topology.primary
            if replaced:
                self._on_release()

        engine = self._engines.writing(primary)
        event.listen(engine, "checkout", hand_out)
        event.listen(engine, "checkin", take_back)
        event.listen(engine, "before_cursor_execute", lambda *_: self._require_lease())
        event.listen(engine, "commit", lambda _connection: self._require_lease())
        return engine

    def _unheld(self, choose: Callable[[], _T]) -> _T:
        """Return what `choose` returns once the primary is no longer being replaced."""
        deadline = time.monotonic() + self._config.hold_wait_seconds
        while True:
            try:
                return choose()
            except PrimaryHeld:
                if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                    raise

    def _meter(self, endpoint: Endpoint) -> Engine:
        with self._changed:
            if endpoint not in self._meters:
                timeout = self._config.measure_timeout_seconds
                self._meters[endpoint] = self._engines.measuring(endpoint, timeout)
            return self._meters[endpoint]

    def _lose(self, endpoint: Endpoint, now: float, reason: str) -> None:
        """Take that a connection failed: the next read goes elsewhere at once."""
        self.observe(endpoint, None, now, reason)
