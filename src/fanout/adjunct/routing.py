"""Which server of a database is asked: a pure machine, and its settings.

It is told the topology and how far each server has come, and chooses. Writes go to the primary.
Reads go round over the replicas that qualify: measured lately, not further behind than allowed, and
with the reader's own writes; where none qualifies, to the primary.

How far a replica is behind is told by positions alone, without a clock of any server and without
special rights: the router remembers when the primary was where. A replica that has come as far as
the primary was at noon lacks nothing older than noon. So a replica whose connection to the primary
is broken falls behind like any other, while MariaDB's own Seconds_Behind_Master would say 0.
"""

from collections import deque
from math import inf
from random import Random

import attrs

from fanout.adjunct.flavours import Position
from fanout.adjunct.topology import DatabaseError, DatabaseRecord
from fanout.core.round_robin import RoundRobin
from fanout.errors import SettingError

MEASURE_SECONDS = 2.0
"""How long a measurement may take. It is believed until three more were due."""


@attrs.frozen(kw_only=True)
class RoutingConfig:
    """How a process routes to its databases. Raises SettingError for what is not allowed."""

    lag_seconds_max: float = 5.0
    """How far behind a replica may be, and how long reads follow a write to the primary where its
    position is not known. Raising it keeps other reads off the primary and lets them be older."""

    measure_interval_seconds: float = 1.0
    """Time between two measurements of a server. Raising it saves queries, delays the notice of
    replicas that fail or fall behind, and keeps reads after a write on the primary for longer."""

    switch_wait_seconds: float = 10.0
    """How long a write waits while the primary is read-only, before it fails. Raising it turns
    longer switches into delays, and lets more of the service's threads wait."""

    def __attrs_post_init__(self) -> None:
        least = 2 * self.measure_interval_seconds  # lag is told to within one
        for name, value in attrs.asdict(self).items():
            if not 0 < value < inf or (name == "lag_seconds_max" and value < least):
                allowed = f"over 0, for lag_seconds_max twice measure_interval_seconds ({least:g})"
                raise SettingError(
                    f"{name}: {value!r} is not allowed; give seconds {allowed}", name
                )


@attrs.frozen
class OwnWrites:
    """What a reader must find: `position` where it is known, else the primary until `until`."""

    position: Position | None
    until: float = 0.0  # seconds of the router's clock


class Router:
    """Chooses servers of one database. `now` is in seconds of one monotonic clock."""

    def __init__(self, name: str, config: RoutingConfig, rng: Random) -> None:
        self._name = name
        self._config = config
        self.known: DatabaseRecord | None = None  # the newest topology
        self._measured: dict[str, tuple[float, Position | None]] = {}  # None: it did not answer
        self._samples: deque[tuple[float, Position]] = deque()  # primary's; when seen there last
        self._round = RoundRobin(rng)

    @property
    def topology(self) -> DatabaseRecord:
        """The newest. Raises DatabaseError: TOPOLOGY_UNKNOWN before there is one."""
        if self.known is None:
            raise DatabaseError(
                "TOPOLOGY_UNKNOWN",
                f"database {self._name}: discovery names no primary and replicas; "
                f"see fanout-sidecar replicas set {self._name} --help",
            )
        return self.known

    @property
    def servers(self) -> set[str]:
        """Whom to measure."""
        return self.known.servers if self.known else set()

    def is_measured(self) -> bool:
        """Return whether every server has answered or failed to, once."""
        return self.servers == self._measured.keys()

    def adopt(self, topology: DatabaseRecord) -> bool:
        """Take a newer topology; return whether it was one."""
        before = self.known
        if before and topology.version <= before.version:
            return False
        self.known, servers = topology, topology.servers
        if before and topology.primary != before.primary:
            # A new primary may lack what the old one had last: nobody would ever reach that.
            self._samples.clear()
            servers.remove(topology.primary)
        self._measured = {each: found for each, found in self._measured.items() if each in servers}
        return True

    def observe(self, server: str, position: Position | None, now: float) -> bool:
        """Note how far a server has come, None if it did not answer; return whether that is news."""
        if server not in self.servers:
            return False
        _, before = self._measured.get(server, (now, Position("", {})))
        self._measured[server] = (now, position)
        if server == self.topology.primary and position is not None:
            if self._samples and self._samples[-1][1] == position:
                self._samples.pop()
            self._samples.append((now, position))
            self._forget(now)
        return (position is None) is not (before is None)

    def read(self, now: float, own: OwnWrites | None = None) -> str:
        """Return where to read. Raises DatabaseError: TOPOLOGY_UNKNOWN."""
        weights = self.readable(now, own)
        return self._round.next(weights) if weights else self.topology.primary

    def readable(self, now: float, own: OwnWrites | None = None) -> dict[str, int]:
        """Return the replicas that qualify, with their weights."""
        self._forget(now)
        wanted = [self._samples[0][1]] if self._samples else []
        if not wanted and self.topology.primary not in self._measured:
            return {}  # soon it is known; where it cannot be asked, replicas are the newest there is
        if own is not None and own.position is not None:
            wanted.append(own.position)
        elif own is not None and now < own.until:
            return {}
        believed = now - 3 * self._config.measure_interval_seconds - MEASURE_SECONDS
        return {
            server: weight
            for server, weight in self.topology.replicas.items()
            for measured_at, position in [self._measured.get(server, (-inf, None))]
            if weight and position is not None and measured_at >= believed
            if all(position.covers(each) for each in wanted)
        }

    def _forget(self, now: float) -> None:
        """Keep the first sample that is not older than the allowed lag, and what came after."""
        while len(self._samples) > 1 and now - self._samples[0][0] > self._config.lag_seconds_max:
            self._samples.popleft()
