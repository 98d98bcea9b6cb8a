"""What MariaDB and PostgreSQL are asked, and how they say how far they have come."""

import math
import re
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

import attrs

from fanout.adjunct.topology import DatabaseError

POSITION_MAX = 1024
"""Characters of a position: it may come back from outside, in a cookie."""

_GTID = re.compile(r"([0-9]{1,10})-[0-9]{1,10}-([0-9]{1,20})")
_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")


@attrs.frozen
class Position:
    """How far somebody is in the history of a database.

    MariaDB numbers transactions by domain: `0-1-42` is the 42nd of domain 0, written on server 1.
    Within a domain numbers only grow, whichever server writes, so the server's id decides nothing.
    PostgreSQL counts the bytes of its log: `16/B374D848` is one number in two halves.
    """

    text: str  # as the server writes it
    reached: Mapping[str, int]  # in each domain; PostgreSQL has one, without a name

    @classmethod
    def parse(cls, text: str) -> "Position":
        """Read either form. The empty text is a MariaDB that has not written anything yet.

        Raises DatabaseError: POSITION_INVALID, it has another form, or is over `POSITION_MAX`.
        """
        if len(text) <= POSITION_MAX:
            if lsn := _LSN.fullmatch(text):
                return cls(text, {"": (int(lsn[1], 16) << 32) + int(lsn[2], 16)})
            gtids = [_GTID.fullmatch(each) for each in re.split(", ?", text)] if text else []
            if all(gtids):
                return cls(text, {gtid[1]: int(gtid[2]) for gtid in gtids if gtid})
        forms = "MariaDB writes 0-1-42, PostgreSQL 16/B374D848"
        raise DatabaseError("POSITION_INVALID", f"{text[:64]!r} is no position: {forms}")

    def covers(self, other: "Position") -> bool:
        """Return whether whoever is here has everything that `other` has."""
        return all(self.reached.get(domain, -1) >= n for domain, n in other.reached.items())


@attrs.frozen(kw_only=True)
class Flavour:
    """What one kind of database is asked, and how its drivers are told to wait no longer."""

    primary_position: str
    replica_position: str
    own_position: str  # on the connection that wrote: has what it committed last
    timeouts: Callable[[float], dict[str, Any]]
    _is_read_only: str  # 0 or off where the server takes writes
    _only_read: str

    def takes_writes(self, connection: Any) -> bool:
        """Ask whether the server does; the connection is one of the driver, as below."""
        return str(_ask(connection, self._is_read_only)).lower() in {"0", "off"}

    def only_read(self, connection: Any) -> None:
        """Make all later transactions of a connection refuse to write."""
        _ask(connection, self._only_read)


def _ask(connection: Any, statement: str) -> Any:
    """Run a statement by itself; return its value, if it has one."""
    with closing(connection.cursor()) as cursor:
        cursor.execute(statement)
        found = cursor.fetchone() if cursor.description else None
    connection.commit()  # a rollback would take back what is set in PostgreSQL
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
        "connect_timeout": max(2, math.ceil(seconds)),  # libpq takes less than 2 as 2
        "tcp_user_timeout": math.ceil(seconds * 1000),
        "options": f"-c statement_timeout={math.ceil(seconds * 1000)}",
    },
)
FLAVOURS = {"mysql": _MARIADB, "mariadb": _MARIADB, "postgresql": _POSTGRESQL}
