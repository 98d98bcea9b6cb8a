"""The membership view: a truth table, and a machine that compares it with the simplest model."""

from math import inf
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fanout.core.membership import (
    MOVES,
    Membership,
    NodeChanged,
    NodeConflict,
    NodeJoined,
    NodeLeft,
    SidecarChanged,
    SidecarJoined,
    SidecarLeft,
)
from fanout.core.view import MASS_LEASES, TOMBSTONE_SECONDS
from fanout.values.names import Endpoint, NodeId, SidecarId
from fanout.values.records import NodeRecord, NodeState, SidecarRecord, Snapshot

LEASE = 10.0
N = NodeId("n")


def node(name: str = "n", incarnation: int = 1, version: int = 1, **other: Any) -> NodeRecord:
    """Return a record."""
    values: dict[str, Any] = {
        "cluster": "c", "owner": "o", "state": NodeState.ACTIVE, "endpoint": Endpoint("h", 1),
        "run_id": "r", "lease_seconds": LEASE, **other,
    }  # fmt: skip
    return NodeRecord(node=NodeId(name), incarnation=incarnation, version=version, **values)


def sidecar(name: str = "s", version: int = 1, **other: Any) -> SidecarRecord:
    """Return a record."""
    values: dict[str, Any] = {"cluster": "c", "incarnation": 1, "lease_seconds": LEASE, **other}
    return SidecarRecord(sidecar=SidecarId(name), version=version, **values)


def view(instances: int = 2, **other: Any) -> Membership:
    """Return a view whose nodes have no data plane to keep them."""
    return Membership("c", instances=instances, **{"data_plane": False, **other})


def read(
    membership: Membership, now: float, *found: NodeRecord | SidecarRecord, instance: int = 0
) -> Any:
    """Read an instance that lists these records."""
    nodes = tuple(record for record in found if isinstance(record, NodeRecord))
    sidecars = tuple(record for record in found if isinstance(record, SidecarRecord))
    return membership.read(instance, Snapshot(nodes, sidecars), now)


def fleet(count: int, version: int = 1) -> list[NodeRecord]:
    """Return the records of some nodes."""
    return [node(f"n{number}", version=version) for number in range(count)]


# Merging.


def test_first_record_joins_newer_changes_same_is_silent() -> None:
    """A record is news exactly once, whichever instance tells it."""
    membership = view()
    newer = node(version=2)

    assert read(membership, 0, node()) == (NodeJoined(node()),)
    assert read(membership, 0, node(), instance=1) == ()
    assert read(membership, 0, newer, instance=1) == (NodeChanged(newer, node()),)
    assert read(membership, 0, node()) == ()
    assert membership.nodes == {N: newer}


def test_a_stale_record_is_ignored_after_a_restart_of_the_node() -> None:
    """A new incarnation outranks every version of the old one."""
    membership = view()
    reborn = node(incarnation=2, version=1, owner="p", state=NodeState.JOINING)
    read(membership, 0, node(version=900))

    assert read(membership, 1, reborn) == (NodeChanged(reborn, node(version=900)),)
    assert read(membership, 1, node(version=901), instance=1) == ()
    assert membership.nodes == {N: reborn}


@pytest.mark.parametrize("before", NodeState)
@pytest.mark.parametrize("after", NodeState)
def test_states_only_move_forward_within_a_life(before: NodeState, after: NodeState) -> None:
    """Only the moves of the table are taken, whether the node is present or remembered."""
    legal = list(NodeState).index(after) >= list(NodeState).index(before)
    legal = legal and before is not NodeState.GONE
    membership = view()
    read(membership, 0, node(state=before))

    assert (after in MOVES[before]) == legal
    assert bool(read(membership, 0, node(version=2, state=after))) == legal


def test_a_new_life_may_begin_anew() -> None:
    """A higher incarnation refutes whatever was said of the one before, a goodbye too."""
    membership = view()
    read(membership, 0, node(state=NodeState.GONE))
    reborn = node(incarnation=2, state=NodeState.JOINING)

    assert read(membership, 0, reborn) == (NodeJoined(reborn),)


def test_goodbye_removes_and_stays() -> None:
    """The tombstone is read again with every poll, and brings nothing back."""
    membership = view()
    gone = node(version=3, state=NodeState.GONE)
    read(membership, 0, node())

    assert read(membership, 0, gone) == (NodeLeft(gone, "left"),)
    assert read(membership, 1, gone) == ()
    assert read(membership, 2, node(version=2), instance=1) == ()
    assert membership.nodes == {}


def test_an_old_dump_does_not_resurrect_the_expired() -> None:
    """What was said before a member fell silent is not news; what it says anew is."""
    membership = view(1)
    read(membership, 0, node(version=5, state=NodeState.DRAINING), sidecar(version=5))
    assert len(membership.advance(LEASE)) == 2

    assert read(membership, 11, node(version=5), node(version=2), sidecar(version=4)) == ()
    assert read(membership, 11, node(version=6)) == ()  # from draining back to active
    back = node(version=6, state=NodeState.DRAINING)
    assert read(membership, 11, back, sidecar(version=6)) == (
        NodeJoined(back),
        SidecarJoined(sidecar(version=6)),
    )


def test_the_absent_are_remembered_for_long_but_not_for_ever() -> None:
    """A tombstone ends, so that memory does."""
    membership = view(1)
    read(membership, 0, node(state=NodeState.GONE))

    assert read(membership, TOMBSTONE_SECONDS - 1, node(version=2)) == ()
    membership.advance(TOMBSTONE_SECONDS)
    assert read(membership, TOMBSTONE_SECONDS, node(version=2)) == (NodeJoined(node(version=2)),)


def test_memory_of_the_absent_is_bounded() -> None:
    """Past the limit the oldest memory goes first."""
    membership = view(1, nodes_max=2)
    for name in "abd":
        read(membership, 0, node(name, version=2, state=NodeState.GONE))

    assert read(membership, 1, node("b"), node("d")) == ()
    assert read(membership, 1, node("a")) == (NodeJoined(node("a")),)


def test_no_more_members_than_the_limits() -> None:
    """The rest is ignored; those within stay up to date."""
    membership = view(1, nodes_max=2, sidecars_max=1)
    read(membership, 0, *fleet(3), sidecar("a"), sidecar("b"))

    assert set(membership.nodes) == {"n0", "n1"}
    assert set(membership.sidecars) == {"a"}
    assert len(read(membership, 1, *fleet(3, version=2))) == 2


def test_records_of_other_fleets_are_ignored() -> None:
    """Fleets on one discovery do not see each other."""
    assert read(view(), 0, node(cluster="other"), sidecar(cluster="other")) == ()


def test_two_owners_of_one_life_the_older_living_one_is_believed() -> None:
    """The second agent is reported once, cannot even say goodbye, and follows after the first."""
    membership = view(1)
    rival = node(version=9, owner="rival")
    read(membership, 0, node())

    assert read(membership, 0, rival) == (NodeConflict(node(), rival),)
    assert read(membership, 1, rival) == ()
    assert read(membership, 1, node(version=10, owner="rival", state=NodeState.GONE)) == ()
    assert read(membership, LEASE, rival) == (NodeChanged(rival, node()),)


def test_sidecars_come_renew_and_say_goodbye() -> None:
    """A sidecar's goodbye is final for that incarnation."""
    membership = view()
    gone = sidecar(version=3, gone=True)

    assert read(membership, 0, sidecar()) == (SidecarJoined(sidecar()),)
    assert read(membership, 0, sidecar(), instance=1) == ()
    assert read(membership, 0, sidecar(version=2)) == (
        SidecarChanged(sidecar(version=2), sidecar()),
    )
    assert read(membership, 0, gone) == (SidecarLeft(gone, "left"),)
    assert read(membership, 0, sidecar(version=4), gone, instance=1) == ()
    assert membership.sidecars == {}


def test_unknown_instances_are_refused() -> None:
    """A wrong instance number is a bug, and changes nothing."""
    membership = view(1)
    for act in (
        lambda: read(membership, 0, node(), instance=1),
        lambda: membership.unreachable(-1, 0),
    ):
        with pytest.raises(ValueError, match="invalid instance"):
            act()
    assert membership.frozen
    assert membership.nodes == {}


# Silence.


def test_silence_removes_after_the_lease_of_the_last_news() -> None:
    """The lease runs from when a record was first seen, not from when it was last read."""
    membership = view(1)
    read(membership, 0, node())
    read(membership, 9, node())

    assert membership.next_deadline() == LEASE
    assert membership.advance(9.9) == ()
    assert membership.advance(LEASE) == (NodeLeft(node(), "expired"),)
    assert membership.next_deadline() == inf


def test_a_wiped_instance_removes_nobody() -> None:
    """Absence is not goodbye; the heartbeats refill it before the lease is over."""
    membership = view(1)
    read(membership, 0, node(), sidecar())

    assert read(membership, 1) == ()
    read(membership, 9, node(version=2), sidecar(version=2))
    assert membership.advance(LEASE + 8) == ()


def test_split_views_are_united() -> None:
    """A member that renews in one instance lives, whatever the others lack or keep."""
    membership = view()
    read(membership, 0, node("a"))
    read(membership, 0, node("b"), instance=1)
    assert set(membership.nodes) == {"a", "b"}

    read(membership, 9, node("a", version=2))
    assert read(membership, LEASE, node("b"), instance=1) == (NodeLeft(node("b"), "expired"),)
    assert membership.unreachable(0, 11) == ()
    assert membership.advance(19) == (NodeLeft(node("a", version=2), "expired"),)


def test_a_node_that_delivers_is_kept_though_discovery_forgot_it() -> None:
    """Only silence of both discovery and data plane, the latter for long enough, removes a node."""
    membership = view(1, data_plane=True, dead_seconds=5)
    read(membership, 0, node(), sidecar())

    assert membership.advance(100) == (SidecarLeft(sidecar(), "expired"),)
    membership.alive(N, alive=False)
    assert membership.next_deadline() == -inf
    assert membership.advance(100) == ()
    assert membership.next_deadline() == 105
    membership.alive(N, alive=False)
    assert membership.advance(104) == ()
    assert membership.next_deadline() == 105  # told twice, dead only once
    membership.alive(N, alive=True)
    assert membership.advance(105) == ()
    membership.alive(N, alive=False)
    membership.advance(106)
    assert membership.advance(111) == (NodeLeft(node(), "expired"),)


def test_a_node_with_a_lease_is_kept_though_its_data_plane_is_dead() -> None:
    """Our own broken link is no reason to remove a node that all others hear."""
    membership = view(1, data_plane=True, dead_seconds=5)
    read(membership, 0, node())
    membership.alive(N, alive=False)

    assert membership.advance(0) == ()
    assert membership.next_deadline() == LEASE
    assert membership.advance(9.9) == ()
    assert membership.advance(LEASE) == (NodeLeft(node(), "expired"),)


def test_dead_then_alive_before_any_time_was_told_is_alive() -> None:
    """A link that was back before the next check counts as never lost."""
    membership = view(1, data_plane=True)
    read(membership, 0, node())
    membership.alive(N, alive=False)
    membership.alive(N, alive=True)
    membership.alive(NodeId("stranger"), alive=False)

    assert membership.next_deadline() == inf
    assert membership.advance(1000) == ()


def test_nobody_expires_while_discovery_is_away() -> None:
    """The set is frozen without a limit of time, and thawed with fresh leases and tombstones."""
    membership = view()
    gone = node("g", version=2, state=NodeState.GONE)
    read(membership, 0, node(), gone, sidecar())
    read(membership, 0, instance=1)
    membership.unreachable(0, 1)
    assert not membership.frozen
    membership.unreachable(1, 1)

    assert membership.frozen
    assert membership.next_deadline() == inf
    assert membership.advance(10_000) == ()
    assert membership.read_age(10_000) == 10_000
    assert read(membership, 10_000, node("g")) == ()
    assert read(membership, 10_000, node("g")) == ()  # nor was it forgotten by the thaw
    assert membership.read_age(10_001) == 1
    assert membership.advance(10_009) == ()
    assert len(membership.advance(10_010)) == 2


def test_before_the_first_read_nothing_is_known() -> None:
    """A view begins frozen, and without an age."""
    membership = view()

    assert membership.frozen
    assert membership.read_age(5) == inf


# Silence of most members at once.


def test_mass_expiry_is_doubted_but_not_for_ever() -> None:
    """When no member renews, a majority is believed dead only after three leases more."""
    membership = view(1)
    read(membership, 0, *fleet(3))

    assert membership.advance(LEASE) == ()
    assert membership.next_deadline() == LEASE + MASS_LEASES * LEASE
    assert membership.advance(LEASE + MASS_LEASES * LEASE - 0.1) == ()
    assert len(membership.advance(LEASE + MASS_LEASES * LEASE)) == 3


def test_mass_silence_is_noticed_though_leases_end_one_by_one() -> None:
    """Heartbeats are spread, so one ill discovery does not end all leases at one moment."""
    membership = view(1)
    for place, record in enumerate(fleet(10)):
        read(membership, place * 0.2, record)

    for place in range(10):
        assert membership.advance(LEASE + place * 0.2) == ()


def test_while_heartbeats_refill_nobody_is_dropped() -> None:
    """The half that is back first does not condemn the half that is about to be."""
    membership = view(1)
    read(membership, 0, *fleet(10))
    membership.advance(12)

    assert len(read(membership, 13, *fleet(6, version=2))) == 6  # changes, no node left
    assert len(read(membership, 14, *fleet(10, version=2))) == 4
    assert len(membership.nodes) == 10
    assert membership.next_deadline() == 13 + LEASE


def test_who_does_not_come_back_with_the_others_is_removed() -> None:
    """One lease after the first renewal all live members have renewed; the dead are removed."""
    membership = view(1)
    read(membership, 0, *fleet(5))
    membership.advance(LEASE)
    read(membership, 12, *fleet(2, version=2))
    read(membership, 20, *fleet(2, version=3))

    assert membership.next_deadline() == 22
    assert membership.advance(21.9) == ()
    assert membership.advance(22) == tuple(NodeLeft(lost, "expired") for lost in fleet(5)[2:])


def test_the_next_mass_silence_is_doubted_anew() -> None:
    """A hold that ended with all members back leaves no mark."""
    membership = view(1)
    read(membership, 0, *fleet(3))
    membership.advance(LEASE)
    read(membership, 12, *fleet(3, version=2))

    assert membership.advance(22) == ()
    assert membership.next_deadline() == 22 + MASS_LEASES * LEASE


@pytest.mark.parametrize(("members", "silent"), [(2, 2), (4, 2), (7, 3)])
def test_few_silent_members_are_not_doubted(members: int, silent: int) -> None:
    """Up to half of a fleet, or all of a pair, may fall silent without an alarm."""
    membership = view(1)
    read(membership, 0, *fleet(members))
    read(membership, 9, *fleet(members, version=2)[silent:])

    assert len(membership.advance(LEASE)) == silent


class MembershipMachine(RuleBasedStateMachine):
    """The view of a node equals the newest legal record ever read, while its lease lasts.

    The model knows a single node: then no silence is a mass silence, and one line says it all.
    """

    def __init__(self) -> None:
        super().__init__()
        self.membership = view(2, tombstone_seconds=inf)
        self.now = 0.0
        self.newest: NodeRecord | None = None  # legal, and ever read
        self.renewed_at = 0.0
        self.present = False
        self.readable: set[int] = set()

    @rule(
        instance=st.integers(0, 1),
        incarnation=st.integers(1, 3),
        version=st.integers(1, 4),
        state=st.sampled_from(NodeState),
    )
    def read(self, instance: int, incarnation: int, version: int, state: NodeState) -> None:
        """Some instance lists some record, old or new."""
        record = node("n", incarnation, version, state=state)
        if not self.readable:
            self.renewed_at = self.now
        self.readable.add(instance)
        before, was_present = self.newest, self.present
        self.expire()  # the lease may have run out unnoticed; news in this very read prevents it
        expired = was_present and not self.present
        news = before is None or (
            record.stamp > before.stamp
            and (record.incarnation > before.incarnation or state in MOVES[before.state])
        )
        effects = read(self.membership, self.now, record, instance=instance)
        if not news:
            assert before is not None
            assert effects == ((NodeLeft(before, "expired"),) if expired else ())
            return
        self.newest, self.renewed_at = record, self.now
        self.present = state is not NodeState.GONE
        if was_present:
            assert before is not None
            assert effects == (
                (NodeChanged(record, before),) if self.present else (NodeLeft(record, "left"),)
            )
        else:
            assert effects == ((NodeJoined(record),) if self.present else ())

    @precondition(lambda self: self.readable)
    @rule(instance=st.integers(0, 1))
    def lose(self, instance: int) -> None:
        """Some instance cannot be read any more."""
        self.readable.discard(instance)
        was_present = self.present
        self.expire()
        effects = self.membership.unreachable(instance, self.now)
        assert len(effects) == (was_present and not self.present)

    @rule(seconds=st.sampled_from([1.0, 6.0, 40.0]))
    def pass_time(self, seconds: float) -> None:
        """Time passes; a deadline is exactly when something happens."""
        deadline = self.membership.next_deadline()
        self.now += seconds
        was_present = self.present
        self.expire()
        assert (was_present and not self.present) == (self.now >= deadline)
        assert len(self.membership.advance(self.now)) == (self.now >= deadline)

    def expire(self) -> None:
        """Let the model's lease run out."""
        if self.readable and self.now >= self.renewed_at + LEASE:
            self.present = False

    @invariant()
    def views_agree(self) -> None:
        """The view is what the model says, and frozen when nothing can be read."""
        assert self.membership.frozen == (not self.readable)
        assert self.membership.nodes == ({N: self.newest} if self.present else {})


TestMembership = MembershipMachine.TestCase
