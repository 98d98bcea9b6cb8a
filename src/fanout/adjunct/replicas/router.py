"""Which server of a database is asked: a pure machine.

It is told the topology and what was measured of each server, and chooses. Writes go to the
primary. Reads go round over the replicas that qualify: measured lately, not further behind than
allowed, and with the reader's own writes; where none qualifies, to the primary.

How far a replica is behind is told by positions alone, without a clock of any server and without
special rights: the router remembers when the primary was where. A replica that has come as far as
the primary was at noon lacks nothing older than noon. So a replica whose connection to the primary
is broken falls behind like any other, while MariaDB's own Seconds_Behind_Master would say 0.
"""

from collections import deque
from collections.abc import Mapping
from math import inf
from random import Random

import attrs

from fanout.adjunct.replicas.config import RoutingConfig
from fanout.adjunct.replicas.errors import PrimaryHeld, TopologyUnknown
from fanout.adjunct.replicas.positions import Position
from fanout.adjunct.replicas.records import DatabaseRecord
from fanout.core.round_robin import RoundRobin


@attrs.frozen
class OwnWrites:
    """What a reader must find: `position` where it is known, else the primary until `until`."""

    position: Position | None
    until: float  # seconds of the router's clock


@attrs.frozen(kw_only=True)
class DatabaseStatistics:
    """What can be said of one database now."""

    version: int  # of the topology; 0 before there is one
    primary: str  # empty while it is being replaced, or not known
    lag_seconds: Mapping[str, float]  # of each replica; inf: it does not answer, or not known


class Router:
    """Chooses servers of one database. `now` is in seconds of one monotonic clock."""

    def __init__(self, name: str, config: RoutingConfig, rng: Random) -> None:
        self._name = name
        self._config = config
        self.known: DatabaseRecord | None = None  # the newest topology
        self._measured: dict[str, tuple[float, Position | None]] = {}  # None: it did not answer
        self._samples: deque[tuple[float, Position]] = deque()  # primary's; last seen there when
        self._round = RoundRobin(rng)

    @property
    def topology(self) -> DatabaseRecord:
        """The newest topology. Raises TopologyUnknown before there is one."""
        if self.known is None:
            raise TopologyUnknown(
                f"database {self._name}: discovery names no primary and replicas; "
                f"see fanout-sidecar replicas set {self._name} --help"
            )
        return self.known

    @property
    def servers(self) -> set[str]:
        """Whom to measure."""
        return self.known.servers if self.known else set()

    @property
    def measured(self) -> bool:
        """Whether every server has answered or failed to, once."""
        return self.servers == self._measured.keys()

    def adopt(self, topology: DatabaseRecord) -> bool:
        """Take a newer topology; return whether it was one."""
        before = self.known
        if before and topology.version <= before.version:
            return False
        self.known = topology
        known = topology.servers
        if topology.replaces_primary(before):
            # A new primary may lack what the old one had: nobody would ever reach that.
            self._samples.clear()
            known.remove(topology.primary)
        self._measured = {each: found for each, found in self._measured.items() if each in known}
        return True

    def observe(self, server: str, position: Position | None, now: float) -> None:
        """Note how far a server has come; None when it did not answer."""
        if server not in self.servers:
            return
        self._measured[server] = (now, position)
        if server == self.topology.primary and position is not None:
            self._sample(position, now)

    def is_silent(self, server: str) -> bool:
        """Whether a server did not answer when it was last measured."""
        return server in self._measured and self._measured[server][1] is None

    def primary(self) -> str:
        """Return where to write. Raises PrimaryHeld or TopologyUnknown."""
        if not self.topology.primary:
            raise PrimaryHeld(
                f"database {self._name}: its primary is being replaced, nobody may write; "
                f"see fanout-sidecar replicas show {self._name}"
            )
        return self.topology.primary

    def read(self, now: float, own: OwnWrites | None = None) -> str:
        """Return where to read.

        Raises:
            PrimaryHeld: no replica qualifies, and the primary is being replaced.
            TopologyUnknown: there is no topology yet.

        """
        replicas = self.topology.replicas.items()
        weights = {each: n for each, n in replicas if n and self._qualifies(each, now, own)}
        return self._round.next(weights) if weights else self.primary()

    def statistics(self, now: float) -> DatabaseStatistics:
        """Return the present state."""
        known = self.known
        return DatabaseStatistics(
            version=known.version if known else 0,
            primary=known.primary if known else "",
            lag_seconds={each: self._lag_seconds(each, now) for each in known.replicas}
            if known
            else {},
        )

    def _position(self, server: str, now: float) -> Position | None:
        """Return where a server is; None when that is not known, or was not lately."""
        measured_at, position = self._measured.get(server, (-inf, None))
        return position if now - measured_at <= self._config.believed_seconds else None

    def _qualifies(self, server: str, now: float, own: OwnWrites | None) -> bool:
        position = self._position(server, now)
        if position is None or self._lag_seconds(server, now) > self._config.lag_seconds_max:
            return False
        if own is None:
            return True
        return now >= own.until if own.position is None else position.covers(own.position)

    def _sample(self, position: Position, now: float) -> None:
        """Remember where the primary is; what is older than any allowed lag is forgotten."""
        samples = self._samples
        if samples and samples[-1][1] == position:
            samples.pop()
        samples.append((now, position))
        while len(samples) > 1 and now - samples[1][0] > self._config.lag_seconds_max:
            samples.popleft()

    def _lag_seconds(self, server: str, now: float) -> float:
        """Return how long ago the primary was last seen where a replica is now."""
        position = self._position(server, now)
        if position is None:
            return inf
        if not self._samples:
            # Where the primary cannot be asked, what a replica has is the newest to be had.
            primary = self.topology.primary
            return 0.0 if not primary or self.is_silent(primary) else inf
        if position.covers(self._samples[-1][1]):
            return 0.0
        return now - max((at for at, past in self._samples if position.covers(past)), default=-inf)
