"""Read/write splitting for SQLAlchemy: writes go to the primary, reads to replicas.

`Databases` follows discovery for a process. `RoutedSession` is a SQLAlchemy session that routes its
statements; `Database.writer` and `Database.reader` return engines for code without a session.
"""

import threading
import time
from collections.abc import Mapping
from typing import Any, Self

import structlog
import trio
from sqlalchemy import URL, ClauseElement, Connection, Engine, event
from sqlalchemy.orm import Session, SessionTransaction, SessionTransactionOrigin
from sqlalchemy.sql import visitors
from sqlalchemy.sql.expression import SelectBase

from fanout.adjunct.database import Database
from fanout.adjunct.flavours import Position
from fanout.adjunct.routing import OwnWrites, RoutingConfig
from fanout.adjunct.topology import DATABASE, DatabaseError
from fanout.config import FleetConfig
from fanout.config.readers import read_name
from fanout.runtime.discovery.watch import open_watch
from fanout.runtime.net.world import fleet_world

__all__ = ["Database", "DatabaseError", "Databases", "RoutedSession", "RoutingConfig"]

log = structlog.get_logger()

LOOK_SECONDS = 0.05
"""Polling interval of `open` and of the thread that follows discovery."""


class Databases:
    """The databases of one process, from `open` to `close`; a context manager.

    One thread follows discovery, and one measures each server. Open it after a fork, not before.

    Args:
        fleet: the discovery instances.
        urls: for each database, by its name in discovery, a SQLAlchemy URL with user, password and
            database name. Host and port are ignored: they come from discovery.
        config: settings of the routing.
        engine_options: further arguments of SQLAlchemy's `create_engine`, for all databases.

    Raises:
        ConfigError: a name, a URL, a driver or a TLS file is invalid.

    """

    def __init__(
        self,
        fleet: FleetConfig,
        urls: Mapping[str, str | URL],
        *,
        config: RoutingConfig | None = None,
        engine_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._fleet = fleet
        self._world = fleet_world(fleet)
        config = config or RoutingConfig()
        self._databases = {
            read_name(name): Database(name, url, config, engine_options or {})
            for name, url in urls.items()
        }
        self._thread = threading.Thread(target=self._work, name="fanout-databases", daemon=True)
        self._heard = threading.Event()  # discovery was read, or cannot be
        self._closing = threading.Event()

    def __getitem__(self, name: str) -> Database:
        """Return a database. Raises DatabaseError: DATABASE_UNKNOWN, `urls` has no such name."""
        if name not in self._databases:
            known = ", ".join(self._databases) or "none"
            message = f"this process has no URL for database {name!r}; known: {known}"
            raise DatabaseError("DATABASE_UNKNOWN", message)
        return self._databases[name]

    def open(self) -> Self:
        """Start; return when discovery has been read and every server was measured once.

        Waits at most `timeout_seconds` of the fleet. What is missing by then is read in the
        background; a database without a topology raises TOPOLOGY_UNKNOWN until then.
        """
        deadline = time.monotonic() + self._fleet.timeout_seconds
        self._thread.start()
        self._heard.wait(self._fleet.timeout_seconds)
        while time.monotonic() < deadline and not all(
            database.is_measured() for database in self._databases.values()
        ):
            time.sleep(LOOK_SECONDS)
        return self

    def close(self) -> None:
        """Stop following discovery, and close idle connections."""
        self._closing.set()
        self._thread.join()
        for database in self._databases.values():
            database.close()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _work(self) -> None:
        try:
            trio.run(self._follow)
        except Exception as error:
            log.error("databases_failed", reason=repr(error))  # noqa: TRY400 - it is re-raised
            raise

    async def _follow(self) -> None:
        """Adopt topologies from discovery as they change."""
        watching = open_watch(self._fleet, (DATABASE,), world=self._world, may_be_down=True)
        async with watching as (_, watch):
            while not self._closing.is_set():
                seen = watch.changed.count
                for name, record in watch.members(DATABASE).items():
                    if name in self._databases:
                        self._databases[name].adopt(record)
                self._heard.set()
                with trio.move_on_after(LOOK_SECONDS):
                    await watch.changed.wait(seen)


def only_reads(clause: ClauseElement | None) -> bool:
    """Return whether a statement certainly writes and locks nothing: a SELECT without DML inside.

    Text and lambdas are not inspected: they count as writes.
    """
    return isinstance(clause, SelectBase) and not any(
        getattr(element, "is_dml", False) or getattr(element, "_for_update_arg", None) is not None
        for element in visitors.iterate(clause)
    )


class RoutedSession(Session):
    """A session that binds each statement to the primary or to a replica of one database.

    These go to the primary: flushes, INSERT, UPDATE, DELETE, SELECT ... FOR UPDATE, text, everything
    within an explicit `begin()`, and everything after one of these in its transaction. The other
    reads of a transaction go to one replica. After a commit the session reads its own writes.

    Args:
        database: the database.
        after: `position` of an earlier session, of any process, whose writes must be visible.
        read_only: send everything to replicas, whose connections refuse to write.
        options: those of SQLAlchemy's `Session`.

    Attributes:
        position: the value for `after` of later sessions, once this one has written; it may be
            empty. It is not secret and may be stored in a cookie.

    Raises:
        DatabaseError: POSITION_INVALID, `after` is not a position.

    """

    def __init__(
        self, database: Database, *, after: str = "", read_only: bool = False, **options: Any
    ) -> None:
        super().__init__(**options)
        self._database = database
        self._read_only = read_only
        self._own = OwnWrites(Position.parse(after)) if after else None
        self._reader: Engine | None = None  # of the current transaction
        self._writes = False  # whether the current transaction uses the primary
        self._connection: Connection | None = None  # to the primary, within a transaction

    @property
    def position(self) -> str:
        """The value for `after` of later sessions; see the class."""
        return self._own.position.text if self._own and self._own.position else ""

    def get_bind(  # type: ignore[override]
        self,
        _mapper: Any = None,
        *,
        clause: ClauseElement | None = None,
        bind: Engine | Connection | None = None,
        **_arguments: Any,
    ) -> Engine | Connection:
        """Return the engine for a statement, or `bind` if the caller gives one."""
        if bind is not None:
            return bind
        transaction = self.get_transaction()
        explicit = transaction and transaction.origin is SessionTransactionOrigin.BEGIN
        writes = self._writes or bool(explicit) or not only_reads(clause)
        if writes and not self._read_only:
            self._writes = True
            return self._database.writer()
        if self._reader is None:
            self._reader = self._database.reader(self._own)
        return self._reader

    def _note_connection(self, _transaction: SessionTransaction, connection: Connection) -> None:
        if connection.engine is self._database.writer():
            self._connection = connection

    def _note_position(self) -> None:
        if self._connection is not None:
            own, known = (
                self._database.own_writes(self._connection),
                self._own and self._own.position,
            )
            if not (known and own.position and known.covers(own.position)):  # else it wrote nothing
                self._own = own

    def _end(self, transaction: SessionTransaction) -> None:
        if transaction.parent is None:
            self._reader = self._connection = None
            self._writes = False


event.listen(RoutedSession, "after_begin", RoutedSession._note_connection)  # noqa: SLF001
event.listen(RoutedSession, "after_commit", RoutedSession._note_position)  # noqa: SLF001
event.listen(RoutedSession, "after_transaction_end", RoutedSession._end)  # noqa: SLF001
