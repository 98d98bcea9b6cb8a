"""Metric families, each read from a frozen statistics value, and the route /metrics.

Nothing is counted here. Each command exports one table of families; docs/ops/metrics.md lists
them. Label values are nodes, discovery instances, doors and constants, so their number is bounded;
never values chosen by clients, such as channels.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, Literal, TypeVar

import attrs
from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector, generate_latest
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fanout.core.histogram import HistogramStatistics

S = TypeVar("S")
S_contra = TypeVar("S_contra", contravariant=True)

Value = float | HistogramStatistics
Samples = Iterable[tuple[tuple[str, ...], Value]]
"""(label values, value) of each series of a family."""


@attrs.frozen
class Family(Generic[S_contra]):
    """One family of metrics.

    Attributes:
        name: as in Prometheus; a counter ends with `_total`, an info with `_info`.
        kind: type of the metric.
        help: the HELP text, with the unit if the name has none.
        read: returns the series from the statistics.
        labels: names of the labels.

    """

    name: str
    kind: Literal["counter", "gauge", "histogram", "info"]
    help: str
    read: Callable[[S_contra], Samples]
    labels: tuple[str, ...] = ()

    def collect(self, statistics: S_contra) -> Metric:
        """Return the family with its current series."""
        if self.kind == "histogram":
            histogram = HistogramMetricFamily(self.name, self.help, labels=self.labels)
            for values, value in self.read(statistics):
                assert isinstance(value, HistogramStatistics)  # noqa: S101 - as the table has it
                steps = [
                    ("+Inf" if most == float("inf") else str(most), float(count))
                    for most, count in value.buckets
                ]
                histogram.add_metric(values, steps, value.seconds)
            return histogram
        # The name of a family lacks the suffix of its samples.
        base = self.name.removesuffix("_total").removesuffix("_info")
        family = Metric(base, self.help, self.kind)
        for values, value in self.read(statistics):
            assert not isinstance(value, HistogramStatistics)  # noqa: S101 - as the table has it
            family.add_sample(self.name, dict(zip(self.labels, values, strict=True)), float(value))
        return family


Table = tuple[Family[S], ...]


def one(read: Callable[[S], Value]) -> Callable[[S], Samples]:
    """Return a `read` function for a family without labels."""
    return lambda statistics: [((), read(statistics))]


def words(counts: Mapping[str, float], known: Sequence[str], *before: str) -> Samples:
    """Return a series for each known word, and `other` for the sum of the rest."""
    found = dict.fromkeys(known, 0.0)
    for word, count in counts.items():
        name = word if word in found else "other"
        found[name] = found.get(name, 0.0) + count
    return [((*before, word), count) for word, count in found.items()]


class _Collector(Collector, Generic[S]):
    """A collector that reads the statistics once per scrape."""

    def __init__(self, table: Table[S], statistics: Callable[[], S]) -> None:
        self._table = table
        self._statistics = statistics

    def describe(self) -> Iterable[Metric]:
        """Return nothing: the tests check for duplicate names."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Return all families."""
        statistics = self._statistics()
        return [family.collect(statistics) for family in self._table]


def metrics_route(table: Table[S], statistics: Callable[[], S]) -> Route:
    """Return the route /metrics: metrics of a table, of the process and of the garbage collector.

    The format is OpenMetrics if the client accepts it, otherwise Prometheus' text format.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(table, statistics))
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)

    async def metrics(request: Request) -> Response:
        encode: Callable[[Any], bytes] = generate_latest
        content_type = CONTENT_TYPE_PLAIN_0_0_4
        if "application/openmetrics-text" in request.headers.get("accept", ""):
            encode, content_type = openmetrics.generate_latest, openmetrics.CONTENT_TYPE_LATEST
        return Response(encode(registry), headers={"content-type": content_type})

    return Route("/metrics", metrics)
