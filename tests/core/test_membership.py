"""The membership view: a truth table, and a machine that compares it with the simplest model."""

from typing import Any

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fanout.core.membership import (
    MASS_LEASES,
    ORDER,
    Membership,
    NodeChanged,
    NodeJoined,
    NodeLeft,
)
from fanout.values import (
    Endpoint,
    NodeId,
    NodeRecord,
    NodeState,
    SidecarId,
    SidecarRecord,
    Snapshot,
)


def node(name: str = "n", incarnation: int = 1, version: int = 1, **other: Any) -> NodeRecord:
    """Return a record."""
    values: dict[str, Any] = {
        "cluster": "c", "owner": "o", "state": NodeState.ACTIVE, "endpoint": Endpoint("h", 1),
        "run_id": "r", "lease_seconds": 10.0, **other,
    }  # fmt: skip
    return NodeRecord(node=NodeId(name), incarnation=incarnation, version=version, **values)


def sidecar(name: str = "s", version: int = 1, *, gone: bool = False) -> SidecarRecord:
    """Return a record."""
    return SidecarRecord(
        cluster="c",
        sidecar=SidecarId(name),
        incarnation=1,
        version=version,
        lease_seconds=10.0,
        gone=gone,
    )


def view(instances: int = 2) -> Membership:
    """Return a view whose nodes have no data plane to keep them."""
    return Membership("c", instances=instances, data_plane=False)


def read(membership: Membership, now: float, *nodes: NodeRecord, instance: int = 0) -> Any:
    """Read an instance that lists these nodes."""
    return membership.read(instance, Snapshot(nodes), now)


def test_first_record_joins_newer_changes_same_is_silent() -> None:
    """A record is news exactly once."""
    membership = view()
    newer = node(version=2)

    assert read(membership, 0, node()) == (NodeJoined(node()),)
    assert read(membership, 0, node()) == ()
    assert read(membership, 0, newer, instance=1) == (NodeChanged(newer, node()),)
    assert read(membership, 0, node()) == ()


def test_state_never_moves_back_within_an_incarnation() -> None:
    """A later record with an earlier state is nonsense and ignored; a new life may begin anew."""
    membership = view()
    read(membership, 0, node(state=NodeState.DRAINING))

    assert read(membership, 0, node(version=9, state=NodeState.ACTIVE)) == ()

    reborn = node(incarnation=2, state=NodeState.JOINING)
    assert isinstance(read(membership, 0, reborn)[0], NodeChanged)


def test_goodbye_removes_and_an_old_dump_does_not_resurrect() -> None:
    """A tombstone outlives what any instance may still say about that life."""
    membership = view()
    gone = node(version=3, state=NodeState.GONE)
    read(membership, 0, node())

    assert read(membership, 0, gone) == (NodeLeft(gone, "left"),)
    assert read(membership, 20, node(version=2), instance=1) == ()
    assert membership.nodes == {}
    assert read(membership, 20, node(incarnation=2)) == (NodeJoined(node(incarnation=2)),)


def test_silence_removes_after_the_lease_of_the_last_news() -> None:
    """The lease runs from when a record was first seen, not from when it was last read."""
    membership = view(1)
    read(membership, 0, node())
    read(membership, 9, node())

    assert membership.next_deadline() == 10
    assert membership.advance(9.9) == ()
    assert membership.advance(10) == (NodeLeft(node(), "expired"),)


def test_a_wiped_instance_removes_nobody() -> None:
    """Absence is not goodbye."""
    membership = view()
    read(membership, 0, node())

    assert read(membership, 1) == ()
    assert NodeId("n") in membership.nodes


def test_a_node_that_delivers_is_kept_though_discovery_forgot_it() -> None:
    """Only silence of both discovery and data plane removes a node."""
    membership = Membership("c", instances=1)
    read(membership, 0, node())

    assert membership.advance(100) == ()

    membership.alive(NodeId("n"), alive=False)

    assert membership.advance(100) == (NodeLeft(node(), "expired"),)


def test_nobody_expires_while_discovery_is_away() -> None:
    """The set is frozen without time limit, and thawed with fresh leases."""
    membership = view(1)
    read(membership, 0, node())
    membership.unreachable(0, 1)

    assert membership.frozen
    assert membership.advance(10_000) == ()
    assert read(membership, 10_000) == ()
    assert membership.advance(10_009) == ()
    assert membership.advance(10_010) == (NodeLeft(node(), "expired"),)


def test_mass_expiry_is_doubted_but_not_for_ever() -> None:
    """When most fall silent at once it is rather discovery that is ill."""
    membership = view(1)
    read(membership, 0, node("a"), node("b"), node("d"))

    assert membership.advance(10) == ()
    assert membership.advance(10 + MASS_LEASES * 10 - 0.1) == ()
    assert len(membership.advance(10 + MASS_LEASES * 10)) == 3


def test_two_owners_of_one_life_the_first_is_believed() -> None:
    """A second agent with the same node id and life cannot take over."""
    membership = view()
    read(membership, 0, node())

    assert read(membership, 0, node(version=9, owner="other")) == ()


def test_records_of_other_fleets_are_ignored() -> None:
    """Fleets on one discovery do not see each other."""
    assert read(view(), 0, node(cluster="other")) == ()


def test_sidecars_come_renew_and_say_goodbye() -> None:
    """A sidecar's goodbye is final for that life."""
    membership = view()
    assert membership.read(0, Snapshot((), (sidecar(),)), 0)
    assert not membership.read(0, Snapshot((), (sidecar(),)), 0)
    assert membership.read(0, Snapshot((), (sidecar(version=2, gone=True),)), 0)
    assert not membership.sidecars
    assert not membership.read(1, Snapshot((), (sidecar(version=2, gone=True),)), 0)


class MembershipMachine(RuleBasedStateMachine):
    """Whatever is read in whatever order, every view holds the newest legal record."""

    def __init__(self) -> None:
        super().__init__()
        self.membership = view(2)
        self.now = 0.0
        self.highest: dict[NodeId, tuple[int, int]] = {}
        self.states: dict[NodeId, tuple[int, NodeState]] = {}

    @rule(
        instance=st.integers(0, 1),
        name=st.sampled_from(["a", "b"]),
        incarnation=st.integers(1, 3),
        version=st.integers(1, 4),
        state=st.sampled_from(list(NodeState)),
    )
    def observe(
        self, instance: int, name: str, incarnation: int, version: int, state: NodeState
    ) -> None:
        """Some instance lists some record, old or new."""
        record = node(name, incarnation, version, state=state)
        before = self.membership.nodes.get(record.node)
        for effect in self.membership.read(instance, Snapshot((record,)), self.now):
            if isinstance(effect, NodeChanged):
                assert effect.before == before
                assert effect.record.stamp > effect.before.stamp
        after = self.membership.nodes.get(record.node)
        assert after in (before, record, None)
        if after is not None:
            assert after.state is not NodeState.GONE

    @rule(seconds=st.sampled_from([1.0, 6.0, 40.0]))
    def pass_time(self, seconds: float) -> None:
        """Time passes; a deadline never lies."""
        deadline = self.membership.next_deadline()
        self.now += seconds
        if self.now < deadline:
            assert self.membership.advance(self.now) == ()
        else:
            self.membership.advance(self.now)

    @invariant()
    def states_move_forward(self) -> None:
        """In no view does a state move back within an incarnation."""
        for name, record in self.membership.nodes.items():
            seen = self.states.get(name)
            if seen is not None and seen[0] == record.incarnation:
                assert ORDER[record.state] >= ORDER[seen[1]] or self.now >= 10
            self.states[name] = (record.incarnation, record.state)


TestMembership = MembershipMachine.TestCase


def test_unknown_instances_are_refused() -> None:
    """A wrong instance number is a bug, and changes nothing."""
    membership = view(1)
    try:
        read(membership, 0, node(), instance=1)
    except ValueError:
        assert membership.frozen
        return
    raise AssertionError(attrs.asdict(node()))
