"""How long something took, counted in steps: cheap to add to, and enough for quantiles."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

import attrs

SHORT_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0)
"""Steps for what takes a round trip."""

LONG_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0)
"""Steps for what waits for others."""


@attrs.frozen
class HistogramStatistics:
    """What was counted so far."""

    buckets: tuple[tuple[float, int], ...]
    """(most seconds, how many took no longer), up to infinity."""
    seconds: float
    """The sum of all."""

    @property
    def count(self) -> int:
        """How many there were."""
        return self.buckets[-1][1]


class Histogram:
    """Counts durations. `bounds` are the steps in seconds, rising."""

    __slots__ = ("_bounds", "_counts", "_seconds")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = (*bounds, float("inf"))
        self._counts = [0] * len(self._bounds)
        self._seconds = 0.0

    def add(self, seconds: float, count: int = 1) -> None:
        """Count `count` things that took `seconds` each."""
        self._counts[bisect_left(self._bounds, seconds)] += count
        self._seconds += seconds * count

    def statistics(self) -> HistogramStatistics:
        """Return what was counted so far."""
        counts = accumulate(self._counts)
        return HistogramStatistics(tuple(zip(self._bounds, counts, strict=True)), self._seconds)
