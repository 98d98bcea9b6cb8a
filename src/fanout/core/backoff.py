"""How long to wait before trying again.

Full jitter: each delay is drawn evenly from zero to a ceiling that doubles with every failed
attempt, so that many processes that lost the same peer at once do not return at once. The ceiling
of the first attempts grows with the fleet, so that its connects come at a rate a Redis can take.
Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from random import Random

import attrs

SPREAD_SECONDS_EACH = 0.002
"""What each member adds to the time over which a fleet spreads what all begin at once."""
SPREAD_SECONDS_MAX = 1.0
"""Longer is not waited, however large the fleet: meanwhile messages may be missed."""


def spread_seconds(members: int) -> float:
    """Return the time within which each of `members` does, at random, what an event asks of all."""
    return min(SPREAD_SECONDS_MAX, members * SPREAD_SECONDS_EACH)


@attrs.frozen(kw_only=True)
class Backoff:
    """A wait policy. An invalid one cannot be built.

    Raises:
        ValueError: unless 0 < first_seconds <= max_seconds.

    """

    first_seconds: float = 0.05
    max_seconds: float = 5.0

    def __attrs_post_init__(self) -> None:
        if not 0 < self.first_seconds <= self.max_seconds:
            raise ValueError(f"need 0 < first_seconds <= max_seconds, have {self}")

    def delay_seconds(self, attempt: int, rng: Random, *, members: int = 1) -> float:
        """Return the wait before attempt number `attempt`, counted from 0.

        `members` is how many may have lost the same peer at the same moment.
        """
        first = max(self.first_seconds, spread_seconds(members))
        ceiling = min(self.max_seconds, first * 2.0 ** min(attempt, 64))
        return rng.uniform(0.0, ceiling)


def jittered(seconds: float, rng: Random, fraction: float = 0.25) -> float:
    """Return `seconds` give or take `fraction`, so that periodic work of a fleet spreads out."""
    return seconds * rng.uniform(1.0 - fraction, 1.0 + fraction)
