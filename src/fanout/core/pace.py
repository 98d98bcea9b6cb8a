"""Spreads out what comes in a burst, so that it leaves time for the rest."""

BURST_SECONDS = 0.1
"""How much of the rate may come at once after a quiet time."""


class Pace:
    """At most `per_second` in the long run: a leaky bucket that says how long to wait.

    Source: the generic cell rate algorithm, ITU-T I.371.
    """

    def __init__(self, per_second: float) -> None:
        self._interval_seconds = 1 / per_second
        self._due = float("-inf")

    def delay_seconds(self, now: float) -> float:
        """Count one at `now` and return how long to wait before the next."""
        self._due = max(self._due, now - BURST_SECONDS) + self._interval_seconds
        return max(0.0, self._due - now)
