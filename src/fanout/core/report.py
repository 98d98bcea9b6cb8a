"""A report on a fleet, as discovery shows it: the members, whether it is whole, and its problems."""

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from fanout.core.membership import Membership
from fanout.values.names import NodeId, SidecarId
from fanout.values.records import NodeRecord, NodeState, SidecarRecord, Snapshot


@attrs.frozen
class Reading:
    """The answer of one discovery instance."""

    instance: str  # its address
    snapshot: Snapshot = Snapshot()
    ages: Mapping[tuple[str, int, int], float] = attrs.field(factory=dict)
    """Seconds since a record was written, by id, incarnation and version; by the instance's clock."""
    error: str = ""  # why the read failed; empty: it succeeded


@attrs.frozen
class NodeReport:
    """One node."""

    id: NodeId
    state: str
    incarnation: int
    redis: str
    fence: str
    heartbeat_age_seconds: float
    covered_by: tuple[SidecarId, ...]
    not_covered_by: tuple[SidecarId, ...]
    deaf: tuple[SidecarId, ...]
    """The sidecars that report it as unheard."""


@attrs.frozen
class SidecarReport:
    """One sidecar."""

    id: SidecarId
    heartbeat_age_seconds: float
    covered: tuple[NodeId, ...]
    deaf: tuple[NodeId, ...]


@attrs.frozen
class FleetReport:
    """One fleet, as discovery shows it."""

    cluster: str
    whole: bool
    problems: tuple[str, ...]
    discovery: tuple[dict[str, Any], ...]
    nodes: tuple[NodeReport, ...]
    sidecars: tuple[SidecarReport, ...]

    def is_last_active(self, node: NodeId) -> bool:
        """Return whether live sidecars would have no active node if this one drained."""
        active = [each.id for each in self.nodes if each.state == NodeState.ACTIVE.value]
        return active == [node] and bool(self.sidecars)


def report(cluster: str, readings: Iterable[Reading]) -> FleetReport:
    """Return the report from the answers of all instances; the newest record of a member counts."""
    readings = list(readings)
    view = Membership(cluster, instances=len(readings), data_plane=False)
    ages: dict[tuple[str, int, int], float] = {}
    for number, reading in enumerate(readings):
        if not reading.error:
            view.read(number, reading.snapshot, 0.0)
        for key, age in reading.ages.items():
            ages[key] = min(age, ages.get(key, age))

    def age_of(name: str, record: NodeRecord | SidecarRecord) -> float:
        return round(ages.get((name, *record.stamp), 0.0), 3)

    sidecars = sorted(view.sidecars.values(), key=lambda each: each.sidecar)
    nodes = tuple(
        _node(record, sidecars, age_of(record.node, record))
        for record in sorted(view.nodes.values(), key=lambda each: each.node)
    )
    problems = (*_discovery_problems(readings), *_node_problems(nodes))
    return FleetReport(
        cluster=cluster,
        whole=not problems,
        problems=problems,
        discovery=tuple(
            {"instance": each.instance, "readable": not each.error, "error": each.error}
            for each in readings
        ),
        nodes=nodes,
        sidecars=tuple(
            SidecarReport(
                each.sidecar,
                age_of(each.sidecar, each),
                tuple(sorted(each.covered)),
                tuple(sorted(each.deaf)),
            )
            for each in sidecars
        ),
    )


def _node(record: NodeRecord, sidecars: list[SidecarRecord], age: float) -> NodeReport:
    def who(table: str, *, listed: bool = True) -> tuple[SidecarId, ...]:
        return tuple(
            each.sidecar
            for each in sidecars
            if (getattr(each, table).get(record.node) == record.incarnation) is listed
        )

    return NodeReport(
        id=record.node,
        state=record.state.value,
        incarnation=record.incarnation,
        redis=str(record.endpoint),
        fence=record.fence.value,
        heartbeat_age_seconds=age,
        covered_by=who("covered"),
        not_covered_by=who("covered", listed=False),
        deaf=who("deaf"),
    )


def _discovery_problems(readings: list[Reading]) -> list[str]:
    return [f"discovery {each.instance}: {each.error}" for each in readings if each.error]


def _node_problems(nodes: tuple[NodeReport, ...]) -> list[str]:
    found = []
    if not any(node.state == NodeState.ACTIVE.value for node in nodes):
        found.append("no node is active")
    for node in nodes:
        if node.state != NodeState.ACTIVE.value:
            found.append(f"node {node.id} is {node.state}")
        elif node.not_covered_by:
            found.append(f"node {node.id} is not covered by {', '.join(node.not_covered_by)}")
        if node.deaf:
            found.append(f"node {node.id} is not heard by {', '.join(node.deaf)}")
    return found
