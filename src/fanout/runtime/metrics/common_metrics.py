"""The metrics common to both commands: identity, event loop, and discovery."""

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
"""Error codes of writes to discovery; all other codes are counted as `other`."""


class ServiceStatistics(Protocol):
    """Statistics of a sidecar or an agent."""

    @property
    def labels(self) -> tuple[str, str, str, str]:
        """Command, version, cluster and id."""

    @property
    def unready(self) -> str:
        """Why it is not ready; empty if it is."""

    @property
    def discovery(self) -> tuple[InstanceStatistics, ...]:
        """The discovery instances."""

    @property
    def loop_lag(self) -> HistogramStatistics:
        """Scheduling delay of the event loop."""


STATES = tuple(state.value for state in NodeState)


def states(state: NodeState | None, *before: str) -> Samples:
    """Return a series for each state of a node: 1 for the current state, 0 for the others."""
    found = {} if state is None else {state.value: 1.0}
    return words(found, STATES, *before)


_INSTANCE = ("discovery",)

COMMON_METRICS: Table[ServiceStatistics] = (
    Family(
        "fanout_info",
        "info",
        "Command, version, cluster and id of this process.",
        lambda s: [(s.labels, 1.0)],
        ("command", "version", "cluster", "id"),
    ),
    Family(
        "fanout_ready",
        "gauge",
        "1 if /readyz returns 200, else 0.",
        one(lambda s: not s.unready),
    ),
    Family(
        "fanout_loop_lag_seconds",
        "histogram",
        "Scheduling delay of the event loop, sampled four times a second.",
        one(lambda s: s.loop_lag),
    ),
    Family(
        "fanout_discovery_readable",
        "gauge",
        "1 if the discovery instance can be read, else 0.",
        lambda s: [((each.instance,), each.readable) for each in s.discovery],
        _INSTANCE,
    ),
    Family(
        "fanout_discovery_writable",
        "gauge",
        "1 if the discovery instance is connected and accepts writes, else 0.",
        lambda s: [((each.instance,), each.writable) for each in s.discovery],
        _INSTANCE,
    ),
    Family(
        "fanout_discovery_read_age_seconds",
        "gauge",
        "Seconds since the discovery instance was last read; infinite before the first read.",
        lambda s: [((each.instance,), trio.current_time() - each.read_at) for each in s.discovery],
        _INSTANCE,
    ),
    Family(
        "fanout_discovery_reads_total",
        "counter",
        "Full reads of the records of a discovery instance.",
        lambda s: [((each.instance,), each.reads) for each in s.discovery],
        _INSTANCE,
    ),
    Family(
        "fanout_discovery_write_errors_total",
        "counter",
        "Failed writes to a discovery instance, by Redis error code, LINK_LOST or TIMEOUT.",
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
        "Invalid records found in a discovery instance.",
        lambda s: [((each.instance,), each.records_ignored) for each in s.discovery],
        _INSTANCE,
    ),
)
