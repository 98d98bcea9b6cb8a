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
"""Reasons for which a client is disconnected."""

FAULTS = ("protocol_error", "wrong_secret")
"""Errors of clients."""

FAILURES = ("unknown", "no_node", "publish_failed")
"""Outcomes of a publish that was not executed, or may not have been."""


@attrs.frozen(kw_only=True)
class SidecarStatistics:
    """Statistics of a sidecar."""

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
        "1 for the current state of the node, 0 for the others.",
        _nodes(lambda each: states(each.state, each.node)),
        ("node", "state"),
    ),
    Family(
        "fanout_node_covered",
        "gauge",
        "1 if everything that local clients subscribe to is subscribed on the node, else 0.",
        _node(lambda each: each.covered),
        _NODE,
    ),
    Family(
        "fanout_node_deaf",
        "gauge",
        "1 if this sidecar cannot hear the node and misses messages published there, else 0.",
        _node(lambda each: each.unheard),
        _NODE,
    ),
    Family(
        "fanout_node_usable",
        "gauge",
        "1 if messages can be sent to the node, else 0.",
        _node(lambda each: each.usable),
        _NODE,
    ),
    Family(
        "fanout_node_published_messages_total",
        "counter",
        "Messages published to the node.",
        _node(lambda each: each.published),
        _NODE,
    ),
    Family(
        "fanout_node_received_messages_total",
        "counter",
        "Messages received from the node.",
        _node(lambda each: each.received),
        _NODE,
    ),
    Family(
        "fanout_node_sent_bytes_total",
        "counter",
        "Bytes sent to the node, on all connections.",
        _node(lambda each: each.bytes.sent_bytes),
        _NODE,
    ),
    Family(
        "fanout_node_received_bytes_total",
        "counter",
        "Bytes received from the node, on all connections.",
        _node(lambda each: each.bytes.received_bytes),
        _NODE,
    ),
    Family(
        "fanout_node_outbox_bytes",
        "gauge",
        "Bytes queued for the node.",
        _node(lambda each: each.bytes.waiting_bytes),
        _NODE,
    ),
    Family(
        "fanout_node_connects_total",
        "counter",
        "Connections on which the node proved its identity, by ACL user.",
        _nodes(lambda each: words(each.connects, _USERS, each.node)),
        _NODE_LINK,
    ),
    Family(
        "fanout_node_link_failures_total",
        "counter",
        "Connections to the node that were lost or failed, by ACL user.",
        _nodes(lambda each: words(each.link_failures, _USERS, each.node)),
        _NODE_LINK,
    ),
    Family(
        "fanout_node_probes_total",
        "counter",
        "Probes published on the node.",
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
        "Round-trip time of the last probe that came back.",
        _node(lambda each: each.probe_seconds),
        _NODE,
    ),
    Family(
        "fanout_node_gaps_total",
        "counter",
        "Gap events of the node, by reason: a gap begins with `lost` and ends with `heard` or `left`.",
        _nodes(lambda each: words(each.gaps, tuple(GAP_REASONS), each.node)),
        ("node", "reason"),
    ),
    Family(
        "fanout_node_join_seconds",
        "histogram",
        "Time nodes spent joining before they became active, as seen by this sidecar.",
        one(lambda s: s.fleet.joins),
    ),
    Family(
        "fanout_node_drain_seconds",
        "histogram",
        "Time nodes spent draining before they left, as seen by this sidecar.",
        one(lambda s: s.fleet.drains),
    ),
    Family(
        "fanout_node_conflicts_total",
        "counter",
        "Agents found to use the node id of another agent.",
        one(lambda s: s.fleet.conflicts),
    ),
)

_PUBLISHING: Table[SidecarStatistics] = (
    Family(
        "fanout_publish_seconds",
        "histogram",
        "Time from a client's publish to the node's reply, for executed messages.",
        one(lambda s: s.fanout.publisher.executed),
    ),
    Family(
        "fanout_publishes_total",
        "counter",
        "Messages published by clients, by outcome: executed, unknown (the node was lost "
        "before its reply), no_node (no node could take it), publish_failed (every node "
        "refused it).",
        lambda s: [
            (("executed",), s.fanout.publisher.executed.count),
            *words(s.fanout.publisher.failed, FAILURES),
        ],
        ("outcome",),
    ),
    Family(
        "fanout_publish_retries_total",
        "counter",
        "Messages refused by a node and retried on another one.",
        one(lambda s: s.fanout.publisher.retries),
    ),
    Family(
        "fanout_publishes_waiting",
        "gauge",
        "Messages that wait because no node can take them.",
        one(lambda s: s.fanout.publisher.waiting),
    ),
    Family(
        "fanout_publishes_waiting_bytes",
        "gauge",
        "Size of the messages that wait because no node can take them.",
        one(lambda s: s.fanout.publisher.waiting_bytes),
    ),
    Family(
        "fanout_fence_timeouts_total",
        "counter",
        "Order barriers not answered in time by every sidecar; channels that moved to another "
        "node may be out of order.",
        one(lambda s: s.fanout.publisher.barrier_timeouts),
    ),
)

_CONSUMERS: Table[SidecarStatistics] = (
    Family(
        "fanout_consumers",
        "gauge",
        "Clients connected to the door.",
        _door(lambda each: each.present),
        _DOOR,
    ),
    Family(
        "fanout_consumer_connections_total",
        "counter",
        "Connections accepted by the door.",
        _door(lambda each: each.connections),
        _DOOR,
    ),
    Family(
        "fanout_consumers_refused_total",
        "counter",
        "Connections refused because the client limit of the door was reached.",
        _door(lambda each: each.refused),
        _DOOR,
    ),
    Family(
        "fanout_consumers_cut_total",
        "counter",
        "Clients disconnected by the sidecar, by reason.",
        _doors(lambda each: words(each.cut, CUTS, each.door)),
        ("door", "code"),
    ),
    Family(
        "fanout_consumer_faults_total",
        "counter",
        "Client errors: protocol_error, or wrong_secret for a failed login.",
        _doors(lambda each: words(each.faults, FAULTS, each.door)),
        ("door", "code"),
    ),
    Family(
        "fanout_consumer_subscriptions",
        "gauge",
        "Subscriptions of all clients of the door.",
        _door(lambda each: each.subscriptions),
        _DOOR,
    ),
    Family(
        "fanout_consumer_published_messages_total",
        "counter",
        "Messages published by the clients of the door.",
        _door(lambda each: each.published),
        _DOOR,
    ),
    Family(
        "fanout_deliveries_total",
        "counter",
        "Messages delivered to the clients of the door, counted once for each client.",
        _deliveries,
        _DOOR,
    ),
    Family(
        "fanout_consumer_received_bytes_total",
        "counter",
        "Bytes received from the clients of the door.",
        _door(lambda each: each.received_bytes),
        _DOOR,
    ),
    Family(
        "fanout_consumer_sent_bytes_total",
        "counter",
        "Bytes sent to the clients of the door.",
        _door(lambda each: each.sent_bytes),
        _DOOR,
    ),
    Family(
        "fanout_consumer_outbox_bytes",
        "gauge",
        "Bytes queued for the clients of the door.",
        _door(lambda each: each.outbox_bytes),
        _DOOR,
    ),
    Family(
        "fanout_consumer_outbox_largest_bytes",
        "gauge",
        "Bytes queued for the slowest client of the door.",
        _door(lambda each: each.outbox_largest_bytes),
        _DOOR,
    ),
    Family(
        "fanout_names",
        "gauge",
        "Distinct channels and patterns that local clients subscribe to.",
        lambda s: [
            (("channel",), s.fanout.dispatch.channels),
            (("pattern",), s.fanout.dispatch.patterns),
        ],
        ("kind",),
    ),
    Family(
        "fanout_names_unconfirmed",
        "gauge",
        "Channels and patterns whose subscription a node has yet to confirm.",
        one(lambda s: s.fanout.unconfirmed),
    ),
)

_FLEET: Table[SidecarStatistics] = (
    Family(
        "fanout_sidecars",
        "gauge",
        "Sidecars in discovery, including this one.",
        one(lambda s: s.fleet.sidecars),
    ),
    Family(
        "fanout_membership_frozen",
        "gauge",
        "1 if no discovery instance can be read and membership stays as last seen, else 0.",
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
