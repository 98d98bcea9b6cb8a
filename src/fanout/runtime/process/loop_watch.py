"""How late the event loop runs what is due: what holds it up holds up every message."""

import trio

from fanout.core.histogram import SHORT_SECONDS, Histogram, HistogramStatistics

INTERVAL_SECONDS = 0.25


class LoopWatch:
    """Wakes up regularly and counts how late."""

    def __init__(self) -> None:
        self._lag = Histogram(SHORT_SECONDS)
        self.last_seconds = 0.0
        """How late it was last."""

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            due = trio.current_time() + INTERVAL_SECONDS
            await trio.sleep_until(due)
            self.last_seconds = trio.current_time() - due
            self._lag.add(self.last_seconds)

    def statistics(self) -> HistogramStatistics:
        """Return how late it was so far."""
        return self._lag.statistics()
