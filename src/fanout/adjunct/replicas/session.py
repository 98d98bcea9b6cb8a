"""A SQLAlchemy session that reads from replicas and writes to the primary."""

from typing import Any

from sqlalchemy import ClauseElement, Connection, Engine, TextClause, event
from sqlalchemy.orm import Session, SessionTransaction, SessionTransactionOrigin
from sqlalchemy.sql import visitors
from sqlalchemy.sql.expression import SelectBase

from fanout.adjunct.replicas.database import Database
from fanout.adjunct.replicas.errors import ReadOnly
from fanout.adjunct.replicas.positions import parse_position
from fanout.adjunct.replicas.router import OwnWrites


def only_reads(clause: ClauseElement | None) -> bool:
    """Return whether a statement certainly writes and locks nothing: a SELECT, all the way down.

    A text or a lambda is not looked into: it counts as a write.
    """
    return isinstance(clause, SelectBase) and not any(
        getattr(element, "is_dml", False) or getattr(element, "_for_update_arg", None) is not None
        for element in visitors.iterate(clause)
    )


class RoutedSession(Session):
    """Binds each statement to the primary or to a replica of one database.

    To the primary go flushes, INSERT, UPDATE, DELETE, SELECT ... FOR UPDATE, texts, all within an
    explicit `begin()`, and all that follows one of these in its transaction. Other reads of one
    transaction go to one replica. After a commit the session reads what it wrote.

    Args:
        database: whose servers to use.
        after: `position` of an earlier session, of any process: what it wrote is found.
        read_only: reads go to replicas also within `begin()` and as texts; writes are refused.
        options: those of SQLAlchemy's `Session`.

    Attributes:
        position: what to hand to later sessions as `after`, once this one has written; it may be
            empty. It is no secret and may go to a browser and back.

    Raises:
        PositionInvalid: `after` is no position.

    """

    def __init__(
        self, database: Database, *, after: str = "", read_only: bool = False, **options: Any
    ) -> None:
        super().__init__(**options)
        self._database = database
        self._read_only = read_only
        self._own = OwnWrites(parse_position(after), 0.0) if after else None
        self._reader: Engine | None = None  # of the present transaction
        self._writes = False  # whether the present transaction goes to the primary
        self._connection: Connection | None = None  # to the primary, within a transaction

    @property
    def position(self) -> str:
        """See the class."""
        return self._own.position.text if self._own and self._own.position else ""

    def get_bind(  # type: ignore[override]
        self,
        _mapper: Any = None,
        *,
        clause: ClauseElement | None = None,
        bind: Engine | Connection | None = None,
        **_arguments: Any,
    ) -> Engine | Connection:
        """Return the engine for a statement: `bind` where the caller names one."""
        if bind is not None:
            return bind
        if self._goes_to_primary(clause):
            self._writes = True
            return self._database.writer()
        if self._reader is None:
            self._reader = self._database.reader(self._own)
        return self._reader

    def _goes_to_primary(self, clause: ClauseElement | None) -> bool:
        transaction = self.get_transaction()
        if self._read_only:
            if self._flushing or not (
                clause is None or isinstance(clause, TextClause) or only_reads(clause)
            ):
                raise ReadOnly("this session was opened with read_only=True: it cannot write")
            return False
        explicit = transaction and transaction.origin is SessionTransactionOrigin.BEGIN
        return self._writes or self._flushing or bool(explicit) or not only_reads(clause)

    def _note_connection(self, _transaction: SessionTransaction, connection: Connection) -> None:
        if connection.engine is self._database.writer():
            self._connection = connection

    def _note_position(self) -> None:
        if self._connection is not None and not self.in_nested_transaction():
            self._own = self._database.own_writes(self._connection)

    def _end(self, transaction: SessionTransaction) -> None:
        if transaction.parent is None:
            self._reader = self._connection = None
            self._writes = False


event.listen(RoutedSession, "after_begin", RoutedSession._note_connection)  # noqa: SLF001
event.listen(RoutedSession, "after_commit", RoutedSession._note_position)  # noqa: SLF001
event.listen(RoutedSession, "after_transaction_end", RoutedSession._end)  # noqa: SLF001
