"""How long to wait before trying again.

Full jitter: each delay is drawn evenly from zero to a ceiling that doubles with every failed
attempt, so that many processes that lost the same peer at once do not return at once.
Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from random import Random

import attrs


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

    def delay_seconds(self, attempt: int, rng: Random) -> float:
        """Return the wait before attempt number `attempt`, counted from 0."""
        ceiling = min(self.max_seconds, self.first_seconds * 2.0 ** min(attempt, 64))
        return rng.uniform(0.0, ceiling)


def jittered(seconds: float, rng: Random, fraction: float = 0.25) -> float:
    """Return `seconds` give or take `fraction`, so that periodic work of a fleet spreads out."""
    return seconds * rng.uniform(1.0 - fraction, 1.0 + fraction)
