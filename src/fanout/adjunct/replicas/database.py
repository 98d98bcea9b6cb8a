"""One database of a service: engines by intent, and the gate before its primary.

All writing goes through one engine, whose connections lead to whichever server is the primary.
Each time one is handed out it is looked whether it still does, so that at no moment an old primary
can be begun to be written to; and it is counted, so that it is known when the last transaction
there has ended. Reading has engines of its own, one for each server, so that a read never becomes
a write.
"""

import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import structlog
from sqlalchemy import URL, Connection, Engine, event, text
from sqlalchemy.exc import DisconnectionError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from fanout.adjunct.replicas.config import RoutingConfig
from fanout.adjunct.replicas.engines import Choose, make_engine, parse_url, reason_of
from fanout.adjunct.replicas.errors import PrimaryHeld
from fanout.adjunct.replicas.positions import Position, parse_position
from fanout.adjunct.replicas.records import DatabaseRecord
from fanout.adjunct.replicas.router import DatabaseStatistics, OwnWrites, Router
from fanout.errors import FanoutError

log = structlog.get_logger()

_T = TypeVar("_T")


class Database:
    """Gives out engines by intent. Safe to use from all threads of a process.

    Args:
        name: what discovery calls it.
        url: driver, user, password and database; host and port are those of the topology.
        config: how to choose.
        engine_options: further arguments of SQLAlchemy's `create_engine`.
        require_lease: raises LeaseLost when this process may not write any more.
        on_release: called, in any thread, when a transaction on a replaced primary has ended.

    Raises:
        ConfigError: the URL cannot be read, its driver is not known or not installed, or an
            option is not allowed.

    """

    def __init__(
        self,
        name: str,
        url: str | URL,
        config: RoutingConfig,
        engine_options: Mapping[str, Any],
        *,
        require_lease: Callable[[], None],
        on_release: Callable[[], None],
    ) -> None:
        self.name = name
        self._config = config
        self._require_lease = require_lease
        self._on_release = on_release
        self._url, self._flavour = parse_url(name, url)
        self._options = {"pool_pre_ping": True, **engine_options}
        self._changed = threading.Condition()  # guards all below
        self._router = Router(name, config, random.Random())  # noqa: S311 - who is asked first
        self._writing: dict[ConnectionPoolEntry, str] = {}  # handed out, not taken back yet
        self._pools = 1  # that the writer has had; each new primary empties one
        self._readers: dict[str, Engine] = {}
        self._writer = self._make_writer()

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
            server = self._unheld(lambda: self._router.read(time.monotonic(), after))
            return self._readers[server]

    def own_writes(self, connection: Connection) -> OwnWrites:
        """Return what a later reader must find, from the connection that has just committed.

        Where the position cannot be had, it is by time.
        """
        position = None
        try:
            found = connection.exec_driver_sql(self._flavour.own_position).scalar_one()
            position = parse_position(found)
        except (SQLAlchemyError, FanoutError) as error:  # the write has been done all the same
            reason = reason_of(error, self._url)
            log.warning("position_unknown", database=self.name, reason=reason)
        return OwnWrites(position, time.monotonic() + self._config.own_writes_seconds)

    def statistics(self) -> DatabaseStatistics:
        """Return the present state."""
        with self._changed:
            return self._router.statistics(time.monotonic())

    # For whoever follows discovery.

    def adopt(self, topology: DatabaseRecord) -> bool:
        """Take a newer topology; return whether it was one. Each new server is measured from now.

        Idle connections to servers that are no longer used are closed; those in use, when they
        are given back.
        """
        with self._changed:
            before = self._router.known
            if not self._router.adopt(topology):
                return False
            gone = set(self._readers) - topology.servers
            unused = [self._readers.pop(server) for server in gone]
            if topology.replaces_primary(before):
                self._pools += 1
                unused.append(self._writer)
            for server in topology.servers - set(self._readers):
                self._begin(server)
            self._changed.notify_all()
        for engine in unused:
            engine.dispose()
        log.info(
            "topology_adopted",
            database=self.name,
            version=topology.version,
            primary=topology.primary,
            replicas=list(topology.replicas),
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
            return self._router.measured

    def close(self) -> None:
        """Close all connections, those in use when they are given back."""
        with self._changed:
            self._router.known = None
            unused = [self._writer, *self._readers.values()]
            self._readers.clear()
            self._changed.notify_all()
        for engine in unused:
            engine.dispose()

    def _begin(self, server: str) -> None:
        """Make the engine of a server, and have a thread measure it."""

        def take_back(_dbapi: Any, entry: ConnectionPoolEntry) -> None:
            if self._readers.get(server) is not reader:  # the pool is gone, and would not close it
                entry.invalidate()

        reader = self._make(lambda _entry: server, self._options, self._flavour.read_only)
        event.listen(reader, "checkin", take_back)
        self._readers[server] = reader
        name = f"fanout-measure-{self.name}"
        threading.Thread(
            target=self._keep_measuring, args=(server, reader), name=name, daemon=True
        ).start()

    def _keep_measuring(self, server: str, reader: Engine) -> None:
        """Ask a server how far it has come, as long as `reader` leads there; at changes at once."""
        timeouts = self._flavour.timeouts(self._config.measure_timeout_seconds)
        meter = self._make(lambda _entry: server, {"connect_args": timeouts})
        is_over = False
        while not is_over:
            self._measure(server, meter)
            with self._changed:
                if self._readers.get(server) is reader:
                    self._changed.wait(self._config.measure_interval_seconds)
                is_over = self._readers.get(server) is not reader
        meter.dispose()

    def _measure(self, server: str, meter: Engine) -> None:
        known = self._router.known
        is_primary = known is not None and server == known.primary
        flavour = self._flavour
        asked = flavour.primary_position if is_primary else flavour.replica_position
        began = time.monotonic()
        position, reason = None, ""
        try:
            with meter.connect() as connection:
                # PostgreSQL has none where it is no replica: as far as nobody needs to be.
                position = parse_position(connection.execute(text(asked)).scalar_one() or "")
        except Exception as error:  # noqa: BLE001 - whatever a driver raises, it did not answer
            reason = reason_of(error, self._url)
        if self._router.known is known:  # else it may have been asked for what it is no more
            self._observe(server, position, began, reason)

    def _observe(
        self, server: str, position: Position | None, now: float, reason: str = ""
    ) -> None:
        """Note how far a server has come; without a position, why not. Changes are logged."""
        with self._changed:
            was_silent = self._router.is_silent(server)
            self._router.observe(server, position, now)
            is_silent = self._router.is_silent(server)
        if is_silent and not was_silent:
            log.warning("database_server_lost", database=self.name, server=server, reason=reason)
        elif was_silent and not is_silent:
            log.warning("database_server_recovered", database=self.name, server=server)

    def _make(self, choose: Choose, options: Mapping[str, Any], statement: str = "") -> Engine:
        return make_engine(
            self.name,
            self._url,
            options,
            choose=choose,
            # The next read goes elsewhere at once.
            on_lost=lambda server, why: self._observe(server, None, time.monotonic(), why),
            statement=statement,
        )

    # The gate.

    def _make_writer(self) -> Engine:
        def primary(entry: ConnectionPoolEntry) -> str:
            lasting: Any = entry.record_info
            with self._changed:
                lasting.setdefault("pool", self._pools)
                return self._unheld(self._router.primary)

        def hand_out(_dbapi: Any, entry: ConnectionPoolEntry, _fairy: Any) -> None:
            with self._changed:
                present = self._unheld(self._router.primary)
                self._require_lease()
                if entry.info["server"] != present:
                    raise DisconnectionError  # SQLAlchemy then connects again
                self._writing[entry] = present

        def take_back(_dbapi: Any, entry: ConnectionPoolEntry) -> None:
            with self._changed:
                left, known = self._writing.pop(entry, None), self._router.known
                replaced = left is not None and (known is None or left != known.primary)
            lasting: Any = entry.record_info
            if replaced or lasting.get("pool") != self._pools:
                entry.invalidate()  # its pool may be gone, and would not close it
            if replaced:
                self._on_release()

        engine = self._make(primary, self._options)
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
