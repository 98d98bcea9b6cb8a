"""What a fleet looks like from outside, and when it is whole."""

from typing import Any

from fanout.core.report import Reading, report
from fanout.values.names import Endpoint, NodeId, SidecarId
from fanout.values.records import NodeRecord, NodeState, SidecarRecord, Snapshot


def node(name: str = "n", **values: Any) -> NodeRecord:
    """Return an active node."""
    facts: dict[str, Any] = {
        "cluster": "c", "node": NodeId(name), "incarnation": 7, "version": 1, "owner": "o",
        "state": NodeState.ACTIVE, "endpoint": Endpoint("h", 1), "run_id": "r", "lease_seconds": 10,
    }  # fmt: skip
    return NodeRecord(**(facts | values))


def sidecar(name: str = "s", **values: Any) -> SidecarRecord:
    """Return a sidecar that covers the node."""
    facts: dict[str, Any] = {
        "cluster": "c", "sidecar": SidecarId(name), "incarnation": 1, "version": 1,
        "lease_seconds": 10, "covered": {NodeId("n"): 7},
    }  # fmt: skip
    return SidecarRecord(**(facts | values))


def reading(*records: NodeRecord | SidecarRecord, **values: Any) -> Reading:
    """Return what an instance that holds these records answers."""
    nodes = tuple(each for each in records if isinstance(each, NodeRecord))
    sidecars = tuple(each for each in records if isinstance(each, SidecarRecord))
    return Reading("d:1", Snapshot(nodes, sidecars), **values)


def test_a_whole_fleet() -> None:
    """Every node active, covered and heard."""
    found = report("c", [reading(node(), sidecar(), sidecar("t"))])

    assert (found.whole, found.problems) == (True, ())
    assert found.nodes[0].covered_by == ("s", "t")
    assert found.is_last_active(NodeId("n"))


def test_each_way_not_to_be_whole() -> None:
    """Each is named."""
    late = sidecar("t", covered={NodeId("n"): 6})
    deaf = sidecar("u", deaf={NodeId("n"): 7})
    joining = node("m", state=NodeState.JOINING)
    found = report(
        "c", [reading(node(), joining, sidecar(), late, deaf), Reading("e:1", error="x")]
    )

    assert found.problems == (
        "discovery e:1: x",
        "node m is joining",
        "node n is not covered by t",
        "node n is not heard by u",
    )
    assert not found.whole
    assert report("c", [reading()]).problems == ("no node is active",)


def test_the_newest_record_counts_and_its_youngest_copy() -> None:
    """What one instance missed another has; goodbye is goodbye."""
    old, new = node(version=1, state=NodeState.JOINING), node(version=2)
    readings = [
        reading(old, ages={("n", 7, 1): 1.0}),
        reading(new, ages={("n", 7, 2): 3.0}),
        reading(new, ages={("n", 7, 2): 2.0}),
    ]
    assert report("c", readings).nodes[0].state == "active"
    assert report("c", readings).nodes[0].heartbeat_age_seconds == 2.0
    assert report("c", [*readings, reading(node(version=3, state=NodeState.GONE))]).nodes == ()


def test_a_node_nobody_needs_is_not_the_last() -> None:
    """Without sidecars, or beside another active node, it may go."""
    assert not report("c", [reading(node())]).is_last_active(NodeId("n"))
    assert not report("c", [reading(node(), node("m"), sidecar())]).is_last_active(NodeId("n"))
