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

import attrs

from fanout.adjunct.replicas.config import RoutingConfig
from fanout.adjunct.replicas.errors import PrimaryHeld, TopologyUnknown
from fanout.adjunct.replicas.positions import Position
from fanout.values import Endpoint


@attrs.frozen(kw_only=True)
class Topology:
    """Who is who in a database. Of two, the one with the higher version counts."""

    version: int
    primary: Endpoint | None  # None: it is being replaced, nobody may write
    replicas: Mapping[Endpoint, int]  # weight; 0 takes no reads


@attrs.frozen
class OwnWrites:
    """What a reader must find: `position` where it is known, else the primary until `until`."""

    position: Position | None
    until: float  # seconds of the router's clock


@attrs.define
class _Sample:
    """The primary was at `position`; last seen there at `until`."""

    position: Position
    until: float


@attrs.define
class _Server:
    """What is known of one replica."""

    measured_at: float = -inf
    position: Position | None = None  # None: it did not answer
    lag_seconds: float = inf
    credit: int = 0  # of the weighted round


@attrs.frozen(kw_only=True)
class ReplicaStatistics:
    """What can be said of one replica now."""

    endpoint: str
    weight: int
    healthy: bool
    lag_seconds: float  # inf: not known, or over what is remembered
    position: str


class Router:
    """Chooses servers of one database. `now` is in seconds of one monotonic clock."""

    def __init__(self, name: str, config: RoutingConfig) -> None:
        self.name = name
        self._config = config
        self._topology: Topology | None = None
        self._samples: deque[_Sample] = deque()
        self._primary_silent = False
        self._servers: dict[Endpoint, _Server] = {}
        self._last_primary: Endpoint | None = None

    @property
    def known(self) -> Topology | None:
        """The newest topology; None before there is one."""
        return self._topology

    @property
    def topology(self) -> Topology:
        """The newest topology. Raises TopologyUnknown before there is one."""
        if self._topology is None:
            raise TopologyUnknown(
                f"database {self.name}: discovery names no primary and replicas; "
                f"see fanout-sidecar replicas set {self.name} --help"
            )
        return self._topology

    def adopt(self, topology: Topology) -> bool:
        """Take a newer topology; return whether it was one."""
        if self._topology is not None and topology.version <= self._topology.version:
            return False
        self._topology = topology
        self._servers = {name: self._servers.get(name, _Server()) for name in topology.replicas}
        if topology.primary not in (None, self._last_primary):
            # A new primary may lack what the old one had: nobody would ever reach that.
            self._last_primary = topology.primary
            self._samples.clear()
            self._primary_silent = False
            for server in self._servers.values():
                server.lag_seconds = inf
        return True

    @property
    def measured(self) -> bool:
        """Whether every server of the topology has answered or failed to, once."""
        primary = self._samples or self._primary_silent or self.topology.primary is None
        return bool(primary) and all(s.measured_at > -inf for s in self._servers.values())

    def observe(self, endpoint: Endpoint, position: Position | None, now: float) -> None:
        """Note how far a server has come; None when it did not answer."""
        if endpoint == self._last_primary:
            self._primary_silent = position is None
            if position is not None:
                self._sample(position, now)
        if (server := self._servers.get(endpoint)) is not None:
            server.position, server.measured_at = position, now
        for server in self._servers.values():
            server.lag_seconds = self._lag_seconds(server.position, now)

    def primary(self) -> Endpoint:
        """Return where to write. Raises PrimaryHeld or TopologyUnknown."""
        if self.topology.primary is None:
            raise PrimaryHeld(
                f"database {self.name}: its primary is being replaced, nobody may write; "
                f"see fanout-sidecar replicas show {self.name}"
            )
        return self.topology.primary

    def read(self, now: float, own: OwnWrites | None = None) -> Endpoint:
        """Return where to read.

        Raises:
            PrimaryHeld: no replica qualifies, and the primary is being replaced.
            TopologyUnknown: there is no topology yet.

        """
        weights = {
            endpoint: weight
            for endpoint, weight in self.topology.replicas.items()
            if weight and self._qualifies(self._servers[endpoint], now, own)
        }
        if not weights:
            return self.primary()
        # The smooth weighted round of nginx: heavier replicas come more often, but not in a row.
        for endpoint, weight in weights.items():
            self._servers[endpoint].credit += weight
        chosen = max(weights, key=lambda endpoint: self._servers[endpoint].credit)
        self._servers[chosen].credit -= sum(weights.values())
        return chosen

    def statistics(self, now: float) -> tuple[ReplicaStatistics, ...]:
        """Return the present state of each replica."""
        return tuple(
            ReplicaStatistics(
                endpoint=str(endpoint),
                weight=self.topology.replicas[endpoint],
                healthy=self._healthy(server, now),
                lag_seconds=server.lag_seconds,
                position=str(server.position or ""),
            )
            for endpoint, server in self._servers.items()
        )

    def _healthy(self, server: _Server, now: float) -> bool:
        measured = now - server.measured_at <= self._config.believed_seconds
        return measured and server.position is not None

    def _qualifies(self, server: _Server, now: float, own: OwnWrites | None) -> bool:
        if not self._healthy(server, now):
            return False
        if server.lag_seconds > self._config.lag_seconds_max:
            return False
        if own is None or server.position is None:
            return True
        return now >= own.until if own.position is None else server.position.covers(own.position)

    def _sample(self, position: Position, now: float) -> None:
        """Remember where the primary is; what is older than any allowed lag is forgotten."""
        samples = self._samples
        if samples and samples[-1].position == position:
            samples[-1].until = now
            return
        samples.append(_Sample(position, now))
        while len(samples) > 1 and now - samples[1].until > self._config.lag_seconds_max:
            samples.popleft()

    def _lag_seconds(self, position: Position | None, now: float) -> float:
        """Return how long ago the primary was last seen where the replica is now."""
        if position is None:
            return inf
        if not self._samples:
            # Where the primary cannot be asked, what a replica has is the newest to be had.
            return 0.0 if self._primary_silent or self.topology.primary is None else inf
        if position.covers(self._samples[-1].position):
            return 0.0
        reached = [s.until for s in self._samples if position.covers(s.position)]
        return now - max(reached) if reached else inf
