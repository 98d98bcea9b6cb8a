"""A histogram of durations: cheap to update, and precise enough for quantiles."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

import attrs

SHORT_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0)
"""Bucket bounds for operations that take a round trip."""

LONG_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0)
"""Bucket bounds for operations that wait for other processes."""


@attrs.frozen
class HistogramStatistics:
    """The contents of a histogram."""

    buckets: tuple[tuple[float, int], ...]
    """(upper bound in seconds, number of durations up to it), the last bound being infinity."""
    seconds: float
    """The sum of all durations."""

    @property
    def count(self) -> int:
        """The number of durations."""
        return self.buckets[-1][1]


class Histogram:
    """Counts durations in buckets. `bounds` are their upper bounds in seconds, ascending."""

    __slots__ = ("_bounds", "_counts", "_seconds")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = (*bounds, float("inf"))
        self._counts = [0] * len(self._bounds)
        self._seconds = 0.0

    def add(self, seconds: float, count: int = 1) -> None:
        """Count `count` operations that took `seconds` each."""
        self._counts[bisect_left(self._bounds, seconds)] += count
        self._seconds += seconds * count

    def statistics(self) -> HistogramStatistics:
        """Return the present contents."""
        counts = accumulate(self._counts)
        return HistogramStatistics(tuple(zip(self._bounds, counts, strict=True)), self._seconds)
