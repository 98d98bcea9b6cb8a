"""Statements for MariaDB and PostgreSQL, and their replication positions."""

import math
import re
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

import attrs

from fanout.adjunct.topology import DatabaseError

POSITION_MAX = 1024
"""Characters of a position: it may come from an untrusted cookie."""

_GTID = re.compile(r"([0-9]{1,10})-[0-9]{1,10}-([0-9]{1,20})")
_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")


@attrs.frozen
class Position:
    """A replication position: a MariaDB GTID or a PostgreSQL LSN.

    MariaDB numbers transactions by domain: `0-1-42` is the 42nd of domain 0, written on server 1.
    Within a domain the numbers only grow, on any server, so the server id is ignored. PostgreSQL
    counts the bytes of its WAL: `16/B374D848` is one 64-bit number in two halves.
    """

    text: str  # as the server writes it
    reached: Mapping[str, int]  # in each domain; PostgreSQL has one, without a name

    @classmethod
    def parse(cls, text: str) -> "Position":
        """Parse either form. The empty text is the position of a MariaDB without transactions.

        Raises DatabaseError: POSITION_INVALID, another form, or longer than `POSITION_MAX`.
        """
        if len(text) <= POSITION_MAX:
            if lsn := _LSN.fullmatch(text):
                return cls(text, {"": (int(lsn[1], 16) << 32) + int(lsn[2], 16)})
            gtids = [_GTID.fullmatch(each) for each in re.split(", ?", text)] if text else []
            if all(gtids):
                return cls(text, {gtid[1]: int(gtid[2]) for gtid in gtids if gtid})
        forms = "a MariaDB GTID 0-1-42 or a PostgreSQL LSN 16/B374D848"
        raise DatabaseError("POSITION_INVALID", f"invalid position {text[:64]!r}: expected {forms}")

    def covers(self, other: "Position") -> bool:
        """Return whether a server at this position has everything up to `other`."""
        return all(self.reached.get(domain, -1) >= n for domain, n in other.reached.items())


@attrs.frozen(kw_only=True)
class Flavour:
    """The statements of one kind of database, and the timeouts of its drivers."""

    primary_position: str
    replica_position: str
    own_position: str  # on the connection that committed: covers its last commit
    timeouts: Callable[[float], dict[str, Any]]
    _is_read_only: str  # returns 0 or off if the server accepts writes
    _only_read: str

    def takes_writes(self, connection: Any) -> bool:
        """Return whether the server accepts writes; `connection` is one of the driver."""
        return str(_ask(connection, self._is_read_only)).lower() in {"0", "off"}

    def only_read(self, connection: Any) -> None:
        """Make all later transactions of a driver's connection read-only."""
        _ask(connection, self._only_read)


def _ask(connection: Any, statement: str) -> Any:
    """Execute a statement in its own transaction; return its value, if any."""
    with closing(connection.cursor()) as cursor:
        cursor.execute(statement)
        found = cursor.fetchone() if cursor.description else None
    connection.commit()  # PostgreSQL would undo SET on a rollback
    return found and found[0]


_MARIADB = Flavour(
    primary_position="SELECT @@global.gtid_current_pos",
    replica_position="SELECT @@global.gtid_slave_pos",
    own_position="SELECT @@session.last_gtid",
    is_read_only="SELECT @@global.read_only",
    only_read="SET SESSION TRANSACTION READ ONLY",
    timeouts=lambda seconds: dict.fromkeys(
        ("connect_timeout", "read_timeout", "write_timeout"), math.ceil(seconds)
    ),
)
_POSTGRESQL = Flavour(
    primary_position="SELECT pg_current_wal_lsn()::text",
    replica_position="SELECT pg_last_wal_replay_lsn()::text",
    own_position="SELECT pg_current_wal_insert_lsn()::text",
    is_read_only="SHOW transaction_read_only",
    only_read="SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    timeouts=lambda seconds: {
        "connect_timeout": max(2, math.ceil(seconds)),  # the minimum of libpq
        "tcp_user_timeout": math.ceil(seconds * 1000),
        "options": f"-c statement_timeout={math.ceil(seconds * 1000)}",
    },
)
FLAVOURS = {"mysql": _MARIADB, "mariadb": _MARIADB, "postgresql": _POSTGRESQL}
