"""How far a server has come in the history of its cluster, as MariaDB and PostgreSQL say it.

MariaDB numbers transactions by domain: `0-1-42` is the 42nd of domain 0, written on server 1.
Within a domain numbers only grow, whichever server writes, so the server's id decides nothing.
PostgreSQL counts the bytes of its log: `16/B374D848` is one number in two halves.
"""

import re
from collections.abc import Mapping
from typing import Self

import attrs

from fanout.adjunct.replicas.errors import PositionInvalid

TEXT_MAX = 1024
"""Characters of a position: it may come back from outside, in a cookie."""

_GTID = re.compile(r"([0-9]{1,10})-([0-9]{1,10})-([0-9]{1,20})")
_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")


@attrs.frozen(slots=True)
class Gtids:
    """A position of MariaDB: for each domain its last transaction, as (server, number)."""

    last: Mapping[int, tuple[int, int]]

    def covers(self, other: "Position") -> bool:
        """Return whether whoever is here has everything that `other` has."""
        return isinstance(other, Gtids) and all(
            domain in self.last and self.last[domain][1] >= number
            for domain, (_, number) in other.last.items()
        )

    def __str__(self) -> str:
        return ",".join(f"{domain}-{server}-{n}" for domain, (server, n) in self.last.items())


@attrs.frozen(slots=True)
class Lsn:
    """A position of PostgreSQL: bytes of log written, or replayed."""

    number: int

    @classmethod
    def of(cls, high: str, low: str) -> Self:
        """Put the two hexadecimal halves together."""
        return cls((int(high, 16) << 32) + int(low, 16))

    def covers(self, other: "Position") -> bool:
        """Return whether whoever is here has everything that `other` has."""
        return isinstance(other, Lsn) and self.number >= other.number

    def __str__(self) -> str:
        return f"{self.number >> 32:X}/{self.number & 0xFFFFFFFF:X}"


Position = Gtids | Lsn


def parse_position(text: str) -> Position:
    """Read either form. The empty text is a MariaDB that has not written anything yet.

    Raises:
        PositionInvalid: the text has another form, or is longer than `TEXT_MAX`.

    """
    if len(text) <= TEXT_MAX:
        if lsn := _LSN.fullmatch(text):
            return Lsn.of(*lsn.groups())
        gtids = [_GTID.fullmatch(each) for each in re.split(", ?", text)] if text else []
        if all(gtids):
            numbers = [tuple(map(int, gtid.groups())) for gtid in gtids if gtid]
            return Gtids({domain: (server, number) for domain, server, number in numbers})
    raise PositionInvalid(
        f"{text[:64]!r} is no position: MariaDB writes 0-1-42, PostgreSQL 16/B374D848"
    )
