"""A rate limit that spreads bursts of work over time."""

BURST_SECONDS = 0.1
"""After idle time, as many events may pass at once as the rate allows in this time."""


class Pace:
    """A leaky bucket: limits events to `per_second` in the long run.

    Source: the generic cell rate algorithm, ITU-T I.371.
    """

    def __init__(self, per_second: float) -> None:
        self._interval_seconds = 1 / per_second
        self._due = float("-inf")

    def delay_seconds(self, now: float) -> float:
        """Count one event at `now`; return the time to wait before the next."""
        self._due = max(self._due, now - BURST_SECONDS) + self._interval_seconds
        return max(0.0, self._due - now)
