"""The router of a database: chooses the server for a read or a write. A pure state machine.

Its inputs are the topology and the position of each server. Writes go to the primary. Reads go, by
weighted round robin, to the replicas that qualify: measured recently, within the allowed lag, and
with the reader's own writes replicated. If no replica qualifies, reads go to the primary.

Lag is measured by positions alone, without the clocks of the servers and without privileges: the
router records when the primary was at which position. A replica at the position that the primary
had at noon has everything older than noon. So a replica whose replication is broken falls behind
like any other, while MariaDB's own Seconds_Behind_Master would be 0.
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
"""Timeout of a measurement. A measurement is valid until three more are due."""


@attrs.frozen(kw_only=True)
class RoutingConfig:
    """Settings of the routing in a process. Raises SettingError for an invalid value."""

    lag_seconds_max: float = 5.0
    """Maximum lag of a replica, and how long reads go to the primary after a write of unknown
    position. Raising it keeps other reads off the primary and lets them be staler."""

    measure_interval_seconds: float = 1.0
    """Interval between measurements of a server. Raising it saves queries, delays the detection of
    replicas that fail or fall behind, and keeps reads after a write on the primary for longer."""

    switch_wait_seconds: float = 10.0
    """How long a write waits for a read-only primary before it fails. Raising it turns longer
    failovers into delays, and lets more threads of the service wait."""

    def __attrs_post_init__(self) -> None:
        least = 2 * self.measure_interval_seconds  # the resolution of lag is one interval
        for name, value in attrs.asdict(self).items():
            if not 0 < value < inf or (name == "lag_seconds_max" and value < least):
                allowed = f"over 0, for lag_seconds_max twice measure_interval_seconds ({least:g})"
                raise SettingError(
                    f"{name}: {value!r} is invalid: expected seconds {allowed}", name
                )


@attrs.frozen
class OwnWrites:
    """Writes a reader must see: up to `position`; if None, reads go to the primary until `until`."""

    position: Position | None
    until: float = 0.0  # on the clock of the router


class Router:
    """Chooses servers of one database. `now` is in seconds of one monotonic clock."""

    def __init__(self, name: str, config: RoutingConfig, rng: Random) -> None:
        self._name = name
        self._config = config
        self.known: DatabaseRecord | None = None  # the newest topology
        self._measured: dict[str, tuple[float, Position | None]] = {}  # None: no answer
        self._samples: deque[tuple[float, Position]] = deque()  # primary: (last seen, position)
        self._round = RoundRobin(rng)

    @property
    def topology(self) -> DatabaseRecord:
        """The newest topology. Raises DatabaseError: TOPOLOGY_UNKNOWN if there is none."""
        if self.known is None:
            raise DatabaseError(
                "TOPOLOGY_UNKNOWN",
                f"database {self._name}: no topology in discovery; "
                f"see fanout-sidecar replicas set {self._name} --help",
            )
        return self.known

    @property
    def servers(self) -> set[str]:
        """The servers to measure."""
        return self.known.servers if self.known else set()

    def is_measured(self) -> bool:
        """Return whether every server has been measured once, even if it failed."""
        return self.servers == self._measured.keys()

    def adopt(self, topology: DatabaseRecord) -> bool:
        """Adopt a topology if it is newer; return whether it was."""
        before = self.known
        if before and topology.version <= before.version:
            return False
        self.known, servers = topology, topology.servers
        if before and topology.primary != before.primary:
            # A new primary may lack the last commits of the old one: no replica would qualify.
            self._samples.clear()
            servers.remove(topology.primary)
        self._measured = {each: found for each, found in self._measured.items() if each in servers}
        return True

    def observe(self, server: str, position: Position | None, now: float) -> bool:
        """Record a server's position, None for no answer; return whether its availability changed."""
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
        """Return the server for a read. Raises DatabaseError: TOPOLOGY_UNKNOWN."""
        weights = self.readable(now, own)
        return self._round.next(weights) if weights else self.topology.primary

    def readable(self, now: float, own: OwnWrites | None = None) -> dict[str, int]:
        """Return the replicas that qualify, with their weights."""
        self._forget(now)
        wanted = [self._samples[0][1]] if self._samples else []
        if not wanted and self.topology.primary not in self._measured:
            return {}  # not measured yet; if the primary is down, replicas are used
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
        """Drop samples older than the allowed lag, except the newest of them."""
        while len(self._samples) > 1 and now - self._samples[0][0] > self._config.lag_seconds_max:
            self._samples.popleft()
