"""How far a server has come in the history of its cluster, as MariaDB and PostgreSQL say it.

MariaDB numbers transactions by domain: `0-1-42` is the 42nd of domain 0, written on server 1.
Within a domain numbers only grow, whichever server writes, so the server's id decides nothing.
PostgreSQL counts the bytes of its log: `16/B374D848` is one number in two halves.
"""

import re
from collections.abc import Mapping

import attrs

from fanout.adjunct.replicas.errors import PositionInvalid

TEXT_MAX = 1024
"""Characters of a position: it may come back from outside, in a cookie."""

_GTID = re.compile(r"([0-9]{1,10})-[0-9]{1,10}-([0-9]{1,20})")
_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")


@attrs.frozen
class Position:
    """How far somebody is."""

    text: str  # as the server writes it
    reached: Mapping[str, int]  # in each domain; PostgreSQL has one, without a name

    def covers(self, other: "Position") -> bool:
        """Return whether whoever is here has everything that `other` has."""
        return all(self.reached.get(domain, -1) >= n for domain, n in other.reached.items())


def parse_position(text: str) -> Position:
    """Read either form. The empty text is a MariaDB that has not written anything yet.

    Raises:
        PositionInvalid: the text has another form, or is longer than `TEXT_MAX`.

    """
    if len(text) <= TEXT_MAX:
        if lsn := _LSN.fullmatch(text):
            return Position(text, {"": (int(lsn[1], 16) << 32) + int(lsn[2], 16)})
        gtids = [_GTID.fullmatch(each) for each in re.split(", ?", text)] if text else []
        if all(gtids):
            return Position(text, {gtid[1]: int(gtid[2]) for gtid in gtids if gtid})
    raise PositionInvalid(
        f"{text[:64]!r} is no position: MariaDB writes 0-1-42, PostgreSQL 16/B374D848"
    )
