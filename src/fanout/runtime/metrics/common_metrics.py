"""The metrics that both commands have: who it is, its event loop, and its view of discovery."""

from typing import Protocol

import trio

from fanout.core.histogram import HistogramStatistics
from fanout.runtime.discovery.registry import InstanceStatistics
from fanout.runtime.metrics.metrics import Family, Samples, Table, one, words
from fanout.values.records import NodeState

WRITE_ERRORS = (
    *("BUSY", "LOADING", "MASTERDOWN", "MISCONF", "NOAUTH", "NOPERM", "NOREPLICAS", "OOM"),
    *("READONLY", "WRONGPASS", "LINK_LOST", "TIMEOUT"),
)
"""What discovery refuses writes with; a Redis that says anything else adds to `other`."""


class ServiceStatistics(Protocol):
    """What both commands tell of themselves."""

    @property
    def labels(self) -> tuple[str, str, str, str]:
        """Command, version, cluster and id."""

    @property
    def unready(self) -> str:
        """Why it is not ready; empty when it is."""

    @property
    def discovery(self) -> tuple[InstanceStatistics, ...]:
        """The discovery instances."""

    @property
    def loop_lag(self) -> HistogramStatistics:
        """How late the loop runs what is due."""


STATES = tuple(state.value for state in NodeState)


def states(state: NodeState | None, *before: str) -> Samples:
    """Return a series for each state of a node: 1 for the present one, 0 for the others."""
    found = {} if state is None else {state.value: 1.0}
    return words(found, STATES, *before)


_INSTANCE = ("discovery",)

COMMON_METRICS: Table[ServiceStatistics] = (
    Family(
        "fanout_info",
        "info",
        "Which command this is, its version, its fleet and its id.",
        lambda s: [(s.labels, 1.0)],
        ("command", "version", "cluster", "id"),
    ),
    Family(
        "fanout_ready",
        "gauge",
        "1 when /readyz says ready, else 0.",
        one(lambda s: not s.unready),
    ),
    Family(
        "fanout_loop_lag_seconds",
        "histogram",
        "How late the event loop runs what is due, seen four times a second.",
        one(lambda s: s.loop_lag),
    ),
    Family(
        "fanout_discovery_readable",
        "gauge",
        "1 while a discovery instance can be read, else 0.",
        lambda s: [((each.instance,), each.readable) for each in s.discovery],
        _INSTANCE,
    ),
    Family(
        "fanout_discovery_writable",
        "gauge",
        "1 while a discovery instance is connected and takes writes, else 0.",
        lambda s: [((each.instance,), each.writable) for each in s.discovery],
        _INSTANCE,
    ),
    Family(
        "fanout_discovery_read_age_seconds",
        "gauge",
        "Time since a discovery instance was last read; infinite before the first time.",
        lambda s: [((each.instance,), trio.current_time() - each.read_at) for each in s.discovery],
        _INSTANCE,
    ),
    Family(
        "fanout_discovery_reads_total",
        "counter",
        "Reads of all records of a discovery instance.",
        lambda s: [((each.instance,), each.reads) for each in s.discovery],
        _INSTANCE,
    ),
    Family(
        "fanout_discovery_write_errors_total",
        "counter",
        "Writes that a discovery instance did not take, by Redis' code, LINK_LOST or TIMEOUT.",
        lambda s: [
            sample
            for each in s.discovery
            for sample in words(each.write_errors, WRITE_ERRORS, each.instance)
        ],
        (*_INSTANCE, "code"),
    ),
    Family(
        "fanout_discovery_records_ignored_total",
        "counter",
        "Records in a discovery instance that could not be understood.",
        lambda s: [((each.instance,), each.records_ignored) for each in s.discovery],
        _INSTANCE,
    ),
)
