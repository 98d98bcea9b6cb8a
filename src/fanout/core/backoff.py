"""Exponential backoff with full jitter: how long to wait before a retry.

Each delay is drawn uniformly from zero to a ceiling that doubles with every failed attempt, so
that processes that lost the same peer at the same time do not reconnect at the same time. The
ceiling of the first attempts grows with the fleet, to limit the rate of connects to one Redis.
Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from random import Random

import attrs

SPREAD_SECONDS_EACH = 0.002
"""How much each member adds to the time over which a fleet spreads simultaneous work."""
SPREAD_SECONDS_MAX = 1.0
"""The limit of that time for a fleet of any size: messages may be missed meanwhile."""


def spread_seconds(members: int) -> float:
    """Return the time over which `members` spread, at random, the work that one event causes."""
    return min(SPREAD_SECONDS_MAX, members * SPREAD_SECONDS_EACH)


@attrs.frozen(kw_only=True)
class Backoff:
    """A backoff policy.

    Raises:
        ValueError: unless 0 < first_seconds <= max_seconds.

    """

    first_seconds: float = 0.05
    max_seconds: float = 5.0

    def __attrs_post_init__(self) -> None:
        if not 0 < self.first_seconds <= self.max_seconds:
            raise ValueError(f"need 0 < first_seconds <= max_seconds, have {self}")

    def delay_seconds(self, attempt: int, rng: Random, *, members: int = 1) -> float:
        """Return the delay before attempt number `attempt`, counted from 0.

        `members` is the number of processes that may have lost the same peer at the same time.
        """
        first = max(self.first_seconds, spread_seconds(members))
        ceiling = min(self.max_seconds, first * 2.0 ** min(attempt, 64))
        return rng.uniform(0.0, ceiling)


def jittered(seconds: float, rng: Random, fraction: float = 0.25) -> float:
    """Return `seconds` plus or minus `fraction`, so that periodic work of a fleet spreads out."""
    return seconds * rng.uniform(1.0 - fraction, 1.0 + fraction)
