"""The metrics of a sidecar.

Long because a table is looked up in one place.
"""

from collections.abc import Callable

import attrs

from fanout.core.histogram import HistogramStatistics
from fanout.core.users import CTL_USER, DATA_USER
from fanout.runtime.discovery.registry import InstanceStatistics
from fanout.runtime.metrics.common_metrics import COMMON_METRICS, states
from fanout.runtime.metrics.metrics import Family, Samples, Table, Value, one, words
from fanout.runtime.sidecar.clients import ClientsStatistics
from fanout.runtime.sidecar.fanout import FanoutStatistics
from fanout.runtime.sidecar.fleet import FleetStatistics
from fanout.runtime.sidecar.node_link import NodeStatistics
from fanout.values.requests import Encoding
from fanout.wire.ws.bridge import CLOSE_CODES, GAP_REASONS

CUTS = (*(code for code in CLOSE_CODES if code != "shutdown"), "killed")
"""Why a consumer is disconnected."""

FAULTS = ("protocol_error", "wrong_secret")
"""What consumers do wrong."""

FAILURES = ("unknown", "no_node", "publish_failed")
"""What becomes of a publish that no node is known to have executed."""


@attrs.frozen(kw_only=True)
class SidecarStatistics:
    """A sidecar."""

    labels: tuple[str, str, str, str]
    fleet: FleetStatistics
    fanout: FanoutStatistics
    discovery: tuple[InstanceStatistics, ...]
    loop_lag: HistogramStatistics
    unready: str


def _node(read: Callable[[NodeStatistics], Value]) -> Callable[[SidecarStatistics], Samples]:
    return lambda s: [((each.node,), read(each)) for each in s.fleet.nodes]


def _nodes(read: Callable[[NodeStatistics], Samples]) -> Callable[[SidecarStatistics], Samples]:
    return lambda s: [sample for each in s.fleet.nodes for sample in read(each)]


def _door(read: Callable[[ClientsStatistics], Value]) -> Callable[[SidecarStatistics], Samples]:
    return lambda s: [((each.door,), read(each)) for each in s.fanout.clients]


def _doors(
    read: Callable[[ClientsStatistics], Samples],
) -> Callable[[SidecarStatistics], Samples]:
    return lambda s: [sample for each in s.fanout.clients for sample in read(each)]


def _deliveries(statistics: SidecarStatistics) -> Samples:
    found = statistics.fanout.dispatch.deliveries
    ws = found[Encoding.JSON]
    return [(("resp",), sum(found.values()) - ws), (("ws",), ws)]


_NODE = ("node",)
_NODE_LINK = ("node", "user")
_USERS = (CTL_USER, DATA_USER)
_DOOR = ("door",)

_NODES: Table[SidecarStatistics] = (
    Family(
        "fanout_node_state",
        "gauge",
        "1 for the state that a node is in, 0 for the others.",
        _nodes(lambda each: states(each.state, each.node)),
        ("node", "state"),
    ),
    Family(
        "fanout_node_covered",
        "gauge",
        "1 while all that local consumers want is subscribed on a node, else 0.",
        _node(lambda each: each.covered),
        _NODE,
    ),
    Family(
        "fanout_node_deaf",
        "gauge",
        "1 while a node cannot be heard: what others publish there is missed.",
        _node(lambda each: each.unheard),
        _NODE,
    ),
    Family(
        "fanout_node_usable",
        "gauge",
        "1 while messages can be sent to a node, else 0.",
        _node(lambda each: each.usable),
        _NODE,
    ),
    Family(
        "fanout_node_published_messages_total",
        "counter",
        "Messages handed to a node.",
        _node(lambda each: each.published),
        _NODE,
    ),
    Family(
        "fanout_node_received_messages_total",
        "counter",
        "Messages that a node delivered to this sidecar.",
        _node(lambda each: each.received),
        _NODE,
    ),
    Family(
        "fanout_node_sent_bytes_total",
        "counter",
        "Bytes sent to a node, all of them.",
        _node(lambda each: each.bytes.sent_bytes),
        _NODE,
    ),
    Family(
        "fanout_node_received_bytes_total",
        "counter",
        "Bytes read from a node, all of them.",
        _node(lambda each: each.bytes.received_bytes),
        _NODE,
    ),
    Family(
        "fanout_node_outbox_bytes",
        "gauge",
        "Bytes that wait for a node to read them.",
        _node(lambda each: each.bytes.waiting_bytes),
        _NODE,
    ),
    Family(
        "fanout_node_connects_total",
        "counter",
        "Connections on which a node has proved its identity, by the user they log in as.",
        _nodes(lambda each: words(each.connects, _USERS, each.node)),
        _NODE_LINK,
    ),
    Family(
        "fanout_node_link_failures_total",
        "counter",
        "Connections to a node that were lost, and attempts that failed.",
        _nodes(lambda each: words(each.link_failures, _USERS, each.node)),
        _NODE_LINK,
    ),
    Family(
        "fanout_node_probes_total",
        "counter",
        "Probes published on a node.",
        _node(lambda each: each.probes),
        _NODE,
    ),
    Family(
        "fanout_node_probe_failures_total",
        "counter",
        "Probes that did not come back in time.",
        _node(lambda each: each.probe_failures),
        _NODE,
    ),
    Family(
        "fanout_node_probe_seconds",
        "gauge",
        "How long the last probe took that came back.",
        _node(lambda each: each.probe_seconds),
        _NODE,
    ),
    Family(
        "fanout_node_gaps_total",
        "counter",
        "Times that messages of a node may have been missed: from `lost` until `heard` or `left`.",
        _nodes(lambda each: words(each.gaps, tuple(GAP_REASONS), each.node)),
        ("node", "reason"),
    ),
    Family(
        "fanout_node_join_seconds",
        "histogram",
        "How long nodes were joining before they were active, as seen from here.",
        one(lambda s: s.fleet.joins),
    ),
    Family(
        "fanout_node_drain_seconds",
        "histogram",
        "How long nodes drained before they were gone, as seen from here.",
        one(lambda s: s.fleet.drains),
    ),
    Family(
        "fanout_node_conflicts_total",
        "counter",
        "Agents that were noticed to use the id of a node that another one speaks for.",
        one(lambda s: s.fleet.conflicts),
    ),
)

_PUBLISHING: Table[SidecarStatistics] = (
    Family(
        "fanout_publish_seconds",
        "histogram",
        "Time from a client's publish to the node's answer, of every message that was executed.",
        one(lambda s: s.fanout.publisher.executed),
    ),
    Family(
        "fanout_publishes_total",
        "counter",
        "Messages of clients by what became of them: executed, unknown (the node was lost with "
        "it), no_node (none could take it), publish_failed (all refused it).",
        lambda s: [
            (("executed",), s.fanout.publisher.executed.count),
            *words(s.fanout.publisher.failed, FAILURES),
        ],
        ("outcome",),
    ),
    Family(
        "fanout_publish_retries_total",
        "counter",
        "Messages that a node refused and that were tried on another one.",
        one(lambda s: s.fanout.publisher.retries),
    ),
    Family(
        "fanout_publishes_waiting",
        "gauge",
        "Messages that wait because no node can take them now.",
        one(lambda s: s.fanout.publisher.waiting),
    ),
    Family(
        "fanout_publishes_waiting_bytes",
        "gauge",
        "Their size.",
        one(lambda s: s.fanout.publisher.waiting_bytes),
    ),
    Family(
        "fanout_fence_timeouts_total",
        "counter",
        "Fences that some sidecar did not answer in time: order may be lost on channels that moved.",
        one(lambda s: s.fanout.publisher.barrier_timeouts),
    ),
)

_CONSUMERS: Table[SidecarStatistics] = (
    Family(
        "fanout_consumers",
        "gauge",
        "Consumers connected to a door.",
        _door(lambda each: each.present),
        _DOOR,
    ),
    Family(
        "fanout_consumer_connections_total",
        "counter",
        "Connections that a door has taken.",
        _door(lambda each: each.connections),
        _DOOR,
    ),
    Family(
        "fanout_consumers_refused_total",
        "counter",
        "Connections refused because the door was full.",
        _door(lambda each: each.refused),
        _DOOR,
    ),
    Family(
        "fanout_consumers_cut_total",
        "counter",
        "Consumers disconnected by the sidecar, by reason.",
        _doors(lambda each: words(each.cut, CUTS, each.door)),
        ("door", "code"),
    ),
    Family(
        "fanout_consumer_faults_total",
        "counter",
        "What consumers did wrong: protocol_error, or wrong_secret for a failed login.",
        _doors(lambda each: words(each.faults, FAULTS, each.door)),
        ("door", "code"),
    ),
    Family(
        "fanout_consumer_subscriptions",
        "gauge",
        "Subscriptions of all consumers of a door.",
        _door(lambda each: each.subscriptions),
        _DOOR,
    ),
    Family(
        "fanout_consumer_published_messages_total",
        "counter",
        "Messages that the consumers of a door published.",
        _door(lambda each: each.published),
        _DOOR,
    ),
    Family(
        "fanout_deliveries_total",
        "counter",
        "Messages delivered to consumers of a door: one for each consumer that gets it.",
        _deliveries,
        _DOOR,
    ),
    Family(
        "fanout_consumer_received_bytes_total",
        "counter",
        "Bytes read from the consumers of a door.",
        _door(lambda each: each.received_bytes),
        _DOOR,
    ),
    Family(
        "fanout_consumer_sent_bytes_total",
        "counter",
        "Bytes sent to the consumers of a door.",
        _door(lambda each: each.sent_bytes),
        _DOOR,
    ),
    Family(
        "fanout_consumer_outbox_bytes",
        "gauge",
        "Bytes that wait for the consumers of a door to read them.",
        _door(lambda each: each.outbox_bytes),
        _DOOR,
    ),
    Family(
        "fanout_consumer_outbox_largest_bytes",
        "gauge",
        "Bytes that wait for the slowest consumer of a door.",
        _door(lambda each: each.outbox_largest_bytes),
        _DOOR,
    ),
    Family(
        "fanout_names",
        "gauge",
        "Different channels and patterns that local consumers are subscribed to.",
        lambda s: [
            (("channel",), s.fanout.dispatch.channels),
            (("pattern",), s.fanout.dispatch.patterns),
        ],
        ("kind",),
    ),
    Family(
        "fanout_names_unconfirmed",
        "gauge",
        "Names that wait for the confirmation of a node before a client hears of it.",
        one(lambda s: s.fanout.unconfirmed),
    ),
)

_FLEET: Table[SidecarStatistics] = (
    Family(
        "fanout_sidecars",
        "gauge",
        "Sidecars that discovery knows, this one included.",
        one(lambda s: s.fleet.sidecars),
    ),
    Family(
        "fanout_membership_frozen",
        "gauge",
        "1 while no discovery instance can be read: the fleet stays as it was last seen.",
        one(lambda s: s.fleet.frozen),
    ),
)

SIDECAR_METRICS: Table[SidecarStatistics] = (
    *COMMON_METRICS,
    *_FLEET,
    *_NODES,
    *_PUBLISHING,
    *_CONSUMERS,
)
