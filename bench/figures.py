"""The figures of trials, and their median and range over several rounds."""

from collections.abc import Iterable, Sequence
from statistics import median

from hdrh.histogram import HdrHistogram

Figures = dict[str, float]
"""Figures by name; the name ends with the unit."""

PERCENTILES = (50, 90, 99, 99.9)
LATENCY_NS_MAX = 60 * 1_000_000_000
SAMPLES_MAX = 100_000
"""Limit of samples; more are thinned out evenly: the histogram is the slowest part of a trial."""


def percentiles(samples: Sequence[int]) -> Figures:
    """Return the percentiles of latencies (ns) in us, by an HdrHistogram. `samples` is not empty."""
    histogram = HdrHistogram(1, LATENCY_NS_MAX, 3)
    for sample in samples[:: len(samples) // SAMPLES_MAX + 1]:
        histogram.record_value(min(sample, LATENCY_NS_MAX))
    return {
        f"latency_us.p{percentile:g}": histogram.get_value_at_percentile(percentile) / 1e3
        for percentile in PERCENTILES
    }


def middle(trials: Iterable[Figures]) -> Figures:
    """Return the median of each figure that all trials have."""
    return {name: median(values) for name, values in _columns(trials).items()}


def span(trials: Iterable[Figures]) -> dict[str, tuple[float, float]]:
    """Return the minimum and maximum of each figure that all trials have."""
    return {name: (min(values), max(values)) for name, values in _columns(trials).items()}


def _columns(trials: Iterable[Figures]) -> dict[str, list[float]]:
    rows = list(trials)
    shared = [name for name in rows[0] if all(name in row for row in rows)]
    return {name: [row[name] for row in rows] for name in shared}
