"""The lag of the event loop: whatever delays the loop delays every message."""

import trio

from fanout.core.histogram import SHORT_SECONDS, Histogram, HistogramStatistics

INTERVAL_SECONDS = 0.25


class LoopWatch:
    """Measures the lag of the event loop at intervals."""

    def __init__(self) -> None:
        self._lag = Histogram(SHORT_SECONDS)
        self.last_seconds = 0.0
        """The last measured lag."""

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            due = trio.current_time() + INTERVAL_SECONDS
            await trio.sleep_until(due)
            self.last_seconds = trio.current_time() - due
            self._lag.add(self.last_seconds)

    def statistics(self) -> HistogramStatistics:
        """Return the distribution of the lag since the start."""
        return self._lag.statistics()
