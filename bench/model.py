"""The needs of a fleet of a given size, computed from measured costs: the table of docs/scaling.md.

The model adds up CPU time and connections. It ignores networks, bursts and uneven placement. Its
costs are those of the machine named in docs/performance.md.
"""

import math

import attrs


@attrs.frozen(kw_only=True)
class Costs:
    """Costs in microseconds of CPU, measured under load."""

    node_message: float = 0.5
    """Of a node's Redis, to execute one publish in a pipeline."""
    node_copy: float = 0.15
    """Of a node's Redis, to send it to one more sidecar."""
    sidecar_message: float = 0.75
    """Of a sidecar, to receive one message from a node."""
    sidecar_delivery: float = 0.12
    """Of a sidecar, to deliver it to one more client, in batches."""
    sidecar_publish: float = 2.3
    """Of a sidecar, to publish one message of a client that has many in flight."""
    discovery_record: float = 0.6
    """Of a discovery Redis, to read one record in a batch."""
    node_probe: float = 25.0
    """Of a node's Redis, to answer the probe of one sidecar."""


USED = 0.5
"""Average utilization of a core; the rest is for bursts, failures, and draining nodes."""

POLL_SECONDS, PROBE_SECONDS, HEARTBEAT_SECONDS = 2.0, 2.0, 2.0
"""The defaults. A busy node is probed as often as an idle one."""


@attrs.frozen(kw_only=True)
class Load:
    """The load on a fleet."""

    deliveries: float  # a second, to all clients
    sidecars: int
    interested: int  # sidecars with a subscriber of a message, on average
    clients: int  # subscribers at each of these


@attrs.frozen(kw_only=True)
class Need:
    """The resources that a load needs."""

    messages: float  # a second, of all publishers
    nodes: int
    node_use: float  # of one core of each node
    sidecar_use: float  # of one core of each sidecar
    connections: int  # of each node
    discovery_use: float  # of one core of an instance without replicas


def need(load: Load, costs: Costs) -> Need:
    """Return the resources that a load needs. Raises ValueError for too many sidecars."""
    messages = load.deliveries / (load.interested * load.clients)
    publishing = messages * (costs.node_message + load.interested * costs.node_copy) / 1e6
    probing = load.sidecars * costs.node_probe / PROBE_SECONDS / 1e6
    if probing >= USED:
        raise ValueError(f"the probes of {load.sidecars} sidecars alone exhaust a node")
    nodes = max(2, math.ceil(publishing / (USED - probing)))  # one may always leave
    heard = messages * load.interested / load.sidecars
    sidecar = (
        heard * (costs.sidecar_message + load.clients * costs.sidecar_delivery)
        + messages / load.sidecars * costs.sidecar_publish
    )
    records = (load.sidecars + nodes) * (load.sidecars + nodes)
    return Need(
        messages=messages,
        nodes=nodes,
        node_use=publishing / nodes + probing,
        sidecar_use=sidecar / 1e6,
        connections=2 * load.sidecars + 1,
        discovery_use=records * costs.discovery_record / POLL_SECONDS / 1e6,
    )


LOADS = (
    Load(deliveries=1e6, sidecars=10, interested=10, clients=100),
    Load(deliveries=1e6, sidecars=100, interested=1, clients=1),
    Load(deliveries=1e7, sidecars=30, interested=10, clients=100),
    Load(deliveries=1e7, sidecars=100, interested=100, clients=100),
    Load(deliveries=1e8, sidecars=300, interested=30, clients=300),
    Load(deliveries=1e8, sidecars=1000, interested=1000, clients=30),
    Load(deliveries=1e8, sidecars=10_000, interested=100, clients=100),
)
"""The loads in docs/scaling.md."""


def table(costs: Costs) -> str:
    """Return the table of docs/scaling.md."""
    lines = [
        (
            "| deliveries/s | sidecars | interested | clients at each | messages/s | nodes | "
            "a node's core | a sidecar's core | connections of a node | a discovery core |"
        ),
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for load in LOADS:
        found = need(load, costs)
        lines.append(
            f"| {load.deliveries:,.0f} | {load.sidecars:,} | {load.interested:,} | {load.clients:,} "
            f"| {found.messages:,.0f} | {found.nodes} | {found.node_use:.0%} "
            f"| {found.sidecar_use:.0%} | {found.connections:,} | {found.discovery_use:.0%} |"
        )
    return "\n".join(lines) + "\n"
