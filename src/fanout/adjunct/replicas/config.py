"""Settings of the routing; all times are in seconds."""

import attrs

from fanout.errors import SettingError
from fanout.wire.records import LEASE_SECONDS_MAX


@attrs.frozen(kw_only=True)
class RoutingConfig:
    """How a process routes to its databases.

    Raises:
        SettingError: a value is not over 0, or two do not fit each other.

    """

    lag_seconds_max: float = 5.0
    """How far behind a replica may be. Raising it keeps reads off the primary for longer and lets
    them be older."""

    own_writes_seconds: float = 5.0
    """How long reads after a write go to the primary when its position is not known. Raising it
    costs the primary reads."""

    measure_interval_seconds: float = 1.0
    """Time between two measurements of a server. Raising it saves queries, delays the notice of
    replicas that fail or fall behind, and keeps reads after a write on the primary for longer."""

    measure_timeout_seconds: float = 2.0
    """How long a measurement may take. Raising it tolerates slower servers and delays the notice
    of those that hang."""

    hold_wait_seconds: float = 10.0
    """How long a write waits while the primary is being replaced, before it fails. Raising it
    turns longer switches into delays, and lets more of the service's threads wait."""

    lease_seconds: float = 60.0
    """How long writes go on when discovery cannot be reached. Raising it bridges longer outages,
    and lets a crashed process delay the replacement of a primary longer."""

    write_without_lease: bool = False
    """Whether writes go on for good when discovery cannot be reached. Then only the database
    itself, read-only or stopped, keeps this process from writing to a replaced primary."""

    @property
    def believed_seconds(self) -> float:
        """How long a measurement counts: three may be missed."""
        return 3 * self.measure_interval_seconds + self.measure_timeout_seconds

    def __attrs_post_init__(self) -> None:
        for name, value in attrs.asdict(self).items():
            if not isinstance(value, bool) and not 0 < value < float("inf"):
                raise SettingError(f"{name}: {value!r} is not allowed; give seconds over 0", name)
        if self.lease_seconds > LEASE_SECONDS_MAX:
            raise SettingError(
                f"lease_seconds: {self.lease_seconds:g} is not allowed; give at most "
                f"{LEASE_SECONDS_MAX:g}",
                "lease_seconds",
            )
        if self.lag_seconds_max < 2 * self.measure_interval_seconds:
            raise SettingError(
                f"lag_seconds_max: {self.lag_seconds_max:g} is not allowed; lag is told to within "
                "measure_interval_seconds, so it must be at least twice "
                f"{self.measure_interval_seconds:g}",
                "lag_seconds_max",
                "measure_interval_seconds",
            )
