"""The node's agent: when it joins, when it carries publishes, when it leaves."""

from collections.abc import Mapping
from typing import Any

import pytest

from fanout.core.agent import COUNT_INTERVAL_SECONDS, Agent, Redis
from fanout.core.agent_effects import (
    Activated,
    CloseGate,
    CountSidecars,
    Effect,
    Left,
    OpenGate,
    PublishEnd,
    SetIdentity,
    Superseded,
    WriteRecord,
)
from fanout.core.rival import owner_name
from fanout.values.names import Endpoint, NodeId, SidecarId
from fanout.values.records import FenceMode, NodeRecord, NodeState, SidecarRecord

HERE = Endpoint("h", 1)
OWNER = owner_name(100, 7)
COVERED = {NodeId("n"): 100}


def agent() -> Agent:
    """Return an agent with round times."""
    return Agent(
        cluster="c",
        node=NodeId("n"),
        owner=OWNER,
        started_ms=100,
        heartbeat_interval_seconds=2,
        poll_interval_seconds=3,
        lease_seconds=10,
        join_timeout_seconds=30,
        drain_timeout_seconds=60,
    )


def sidecars(**told: Any) -> Mapping[SidecarId, SidecarRecord]:
    """Return one live sidecar that says this of itself."""
    record = SidecarRecord(
        cluster="c", sidecar=SidecarId("s"), incarnation=1, version=1, lease_seconds=10, **told
    )
    return {record.sidecar: record}


def states(effects: tuple[object, ...]) -> list[NodeState]:
    """Return the states that are written."""
    return [effect.record.state for effect in effects if isinstance(effect, WriteRecord)]


def redis(run_id: str = "r", fence: FenceMode = FenceMode.ACL) -> Redis:
    """Return a run of the node's Redis."""
    return Redis(run_id, HERE, fence)


def node(name: str, **values: Any) -> Mapping[NodeId, NodeRecord]:
    """Return another node, active unless said otherwise."""
    facts: dict[str, Any] = {
        "cluster": "c", "node": NodeId(name), "incarnation": 1, "version": 1, "owner": "other",
        "state": NodeState.ACTIVE, "endpoint": Endpoint("far", 1), "run_id": "x",
        "lease_seconds": 10,
    }  # fmt: skip
    record = NodeRecord(**(facts | values))
    return {record.node: record}


def joined(fence: FenceMode = FenceMode.ACL) -> tuple[Agent, tuple[Effect, ...]]:
    """Return an agent in its first incarnation, with its record in discovery, and its effects."""
    machine = agent()
    machine.looked({}, {}, 0)
    effects = machine.redis_up(redis(fence=fence), 0)
    return machine, effects


def active(told: Mapping[SidecarId, SidecarRecord] | None = None) -> Agent:
    """Return the agent of an active node."""
    machine, _ = joined()
    machine.looked(told or {}, {}, 0)
    machine.told(100, 0)
    assert machine.state is NodeState.ACTIVE
    return machine


def test_a_life_begins_with_a_shut_door_and_an_identity() -> None:
    """Sidecars that connect at once must find both before discovery names the node."""
    _, effects = joined()

    assert [type(effect) for effect in effects] == [CloseGate, SetIdentity, WriteRecord]
    assert states(effects) == [NodeState.JOINING]


def test_without_rights_the_door_is_left_alone() -> None:
    """In cooperative mode sidecars keep it shut among themselves; the record says so."""
    machine, effects = joined(FenceMode.COOPERATIVE)
    effects += machine.told(100, 0) + machine.drain(1) + machine.advance(31)

    assert not any(isinstance(effect, OpenGate | CloseGate) for effect in effects)
    modes = {effect.record.fence for effect in effects if isinstance(effect, WriteRecord)}
    assert modes == {FenceMode.COOPERATIVE}


def test_first_node_activates_once_discovery_was_read_after_the_record_was_written() -> None:
    """Without sidecars there is nothing to wait for, but what was read earlier proves nothing."""
    machine, _ = joined()
    assert machine.advance(1) == ()
    assert machine.looked({}, {}, 1) == ()
    assert machine.told(99, 1) == ()

    effects = machine.told(100, 1)

    assert effects[0] == OpenGate()
    assert states(effects) == [NodeState.ACTIVE]
    assert isinstance(effects[-1], Activated) and effects[-1].missing == ()


def test_activation_waits_for_every_live_sidecar() -> None:
    """A sidecar that has not subscribed, or to an older incarnation only, delays activation."""
    machine, _ = joined()
    machine.looked(sidecars(), {}, 0)
    machine.told(100, 0)

    assert machine.looked(sidecars(covered={NodeId("n"): 99}), {}, 1) == ()
    assert states(machine.looked(sidecars(covered=COVERED), {}, 1)) == [NodeState.ACTIVE]


def test_activation_names_who_was_missing_at_the_deadline() -> None:
    """One stuck sidecar delays a join, it does not prevent it."""
    machine, _ = joined()
    machine.looked(sidecars(), {}, 1)
    machine.told(100, 1)
    assert states(machine.advance(29.9)) == [NodeState.JOINING]  # a heartbeat

    effects = machine.advance(30)

    found = [e for e in effects if isinstance(e, Activated)]
    assert [(each.missing, each.late) for each in found] == [((SidecarId("s"),), True)]


def test_activation_waits_for_as_many_sidecars_as_elsewhere() -> None:
    """A sidecar that discovery does not show is seen on the other nodes."""
    machine, _ = joined()
    others = node("other")
    machine.looked({}, others, 0)
    assert machine.told(100, 0) == (CountSidecars(100, tuple(others.values())),)
    assert machine.advance(0) == ()  # one count at a time

    assert machine.counted(100, 1, 2, 1) == ()
    due = machine.next_deadline()
    assert due == 1 + COUNT_INTERVAL_SECONDS
    assert machine.advance(due) == (CountSidecars(100, tuple(others.values())),)
    assert machine.counted(99, 2, 2, due) == ()  # of an earlier life
    assert machine.counted(100, None, 0, due) == ()  # this node did not tell
    assert states(machine.counted(100, 2, 2, due)) == [NodeState.ACTIVE]


def test_heartbeats_vouch_for_delivery() -> None:
    """They come in their interval, stop while Redis is down, and go on when the same one returns."""
    machine = active()
    assert machine.next_deadline() == 2
    assert machine.advance(1.9) == ()
    assert states(machine.advance(2)) == [NodeState.ACTIVE]

    machine.redis_down()

    assert machine.next_deadline() == float("inf")
    assert machine.advance(11) == ()
    assert states(machine.redis_up(redis(), 12)) == [NodeState.ACTIVE]


def test_a_connection_that_is_back_does_anew_what_may_not_have_been_done() -> None:
    """The door stands as the state wants it, and the identity is there."""
    machine = active()
    machine.redis_down()
    effects = machine.redis_up(redis(), 1)

    assert effects[0] == OpenGate()
    assert isinstance(effects[1], SetIdentity)
    assert machine.redis_up(redis(), 1) == ()  # the next probe is no news


def test_a_new_redis_process_is_a_new_life() -> None:
    """No sidecar may publish on it before all have subscribed again."""
    machine = active()
    machine.redis_down()
    machine.found(0, node("n", incarnation=90, owner=OWNER)[NodeId("n")], 1)
    machine.found(0, node("n", incarnation=500, owner=OWNER)[NodeId("n")], 1)
    effects = machine.redis_up(redis("other"), 1)

    assert states(effects) == [NodeState.JOINING]
    assert isinstance(effects[1], SetIdentity) and effects[1].identity.incarnation == 501
    assert machine.advance(1) == ()


def test_versions_grow() -> None:
    """Every record written is newer than the one before."""
    machine, effects = joined()
    written = [*effects, *machine.told(100, 0), *machine.advance(2), *machine.drain(3)]
    stamps = [effect.record.stamp for effect in written if isinstance(effect, WriteRecord)]

    assert stamps == sorted(set(stamps))
    assert len(stamps) == 4


def test_drain_publishers_first_then_end_then_subscribers() -> None:
    """END follows the last publisher and the shut door; goodbye follows the last subscriber."""
    machine = active(sidecars(covered=COVERED))

    assert states(machine.drain(1)) == [NodeState.DRAINING]
    assert machine.drain(1) == ()
    assert machine.looked(sidecars(covered=COVERED), {}, 1) == ()
    effects = machine.looked(sidecars(covered=COVERED, stopped=COVERED), {}, 1)
    assert effects == (CloseGate(), PublishEnd(100), CountSidecars(100, ()))
    assert machine.counted(100, 1, 0, 1) == ()
    again = machine.advance(1 + COUNT_INTERVAL_SECONDS)
    assert again == (PublishEnd(100), CountSidecars(100, ()))  # for who subscribed meanwhile
    effects = machine.counted(100, 0, 0, 2)
    assert states(effects) == [NodeState.GONE]
    assert isinstance(effects[-1], Left)
    assert machine.next_deadline() == float("inf")


def test_drain_is_bounded() -> None:
    """A sidecar that answers nothing delays END and goodbye only to their deadlines."""
    machine = active(sidecars(covered=COVERED))
    machine.drain(0)

    assert PublishEnd(100) not in machine.advance(29.9)
    assert PublishEnd(100) in machine.advance(30)
    machine.counted(100, 1, 0, 30)
    assert not any(isinstance(effect, Left) for effect in machine.advance(59.9))
    assert any(isinstance(effect, Left) for effect in machine.advance(60))


def test_the_last_active_node_leaves_when_another_is_active() -> None:
    """Asked to leave, it stays while sidecars have no other node, but not for ever."""
    machine = active(sidecars(covered=COVERED))
    assert machine.is_last
    assert machine.leave(1) == ()
    effects = machine.looked(sidecars(covered=COVERED), node("b", state=NodeState.JOINING), 2)
    assert states(effects) == [NodeState.ACTIVE]  # a heartbeat

    effects = machine.looked(sidecars(covered=COVERED), node("b"), 3)

    assert states(effects) == [NodeState.DRAINING]


def test_the_wait_for_another_node_is_bounded() -> None:
    """A fleet that is shut down as a whole does not hang."""
    machine = active(sidecars(covered=COVERED))
    machine.leave(1)
    machine.leave(30)  # repeating it grants no more time
    assert states(machine.advance(60.9)) == [NodeState.ACTIVE]
    assert states(machine.advance(61)) == [NodeState.DRAINING]

    alone = active()  # no sidecar needs it
    assert not alone.is_last
    alone.leave(1)
    assert alone.state is NodeState.DRAINING


@pytest.mark.parametrize(("low", "high"), [(2, 3), (0, 0)])
def test_sidecars_of_another_protocol_are_not_waited_for(low: int, high: int) -> None:
    """They could acknowledge nothing."""
    machine, _ = joined()
    machine.looked(sidecars(protocol_min=low, protocol_max=high), {}, 0)

    assert states(machine.told(100, 0)) == [NodeState.ACTIVE]


def other(version: int, **values: Any) -> NodeRecord:
    """Return a record of this node id by another agent."""
    facts: dict[str, Any] = {"incarnation": 50, "owner": owner_name(50, 1), "version": version}
    return node("n", **(facts | values))[NodeId("n")]


def test_a_dead_predecessor_is_told_by_its_silence() -> None:
    """A record that is not renewed for a heartbeat and a poll belongs to a dead agent."""
    machine = agent()
    assert machine.found(0, other(1), 0) == ()
    machine.looked({}, {}, 0)
    assert machine.redis_up(redis(), 1) == ()
    machine.found(0, other(1), 3)

    assert machine.next_deadline() == 5
    assert states(machine.advance(5)) == [NodeState.JOINING]


def test_what_one_discovery_instance_missed_is_no_sign_of_life() -> None:
    """The last record of the dead may stand in one instance and an earlier one in another."""
    machine = agent()
    machine.found(0, other(1), 0)
    machine.found(1, other(2), 0)
    machine.looked({}, {}, 0)
    machine.redis_up(redis(), 0)
    machine.found(0, other(1), 2)
    machine.found(1, other(2), 2)

    assert states(machine.advance(5)) == [NodeState.JOINING]


def test_one_who_said_goodbye_or_lost_its_address_is_not_watched() -> None:
    """A planned restart, or a Redis in place of the other's, begins at once."""
    machine = agent()
    machine.found(0, other(1, state=NodeState.GONE), 0)
    machine.looked({}, {}, 0)
    assert states(machine.redis_up(redis(), 0)) == [NodeState.JOINING]

    machine = agent()
    machine.redis_up(redis(), 0)
    machine.found(0, other(1, endpoint=HERE), 0)
    assert states(machine.looked({}, {}, 0)) == [NodeState.JOINING]


def test_an_agent_whose_id_is_taken_gives_up_before_it_says_anything() -> None:
    """Even when its clock says that it is the older one."""
    machine = agent()
    machine.found(0, other(1, owner=owner_name(999, 1)), 0)
    machine.looked({}, {}, 0)
    machine.redis_up(redis(), 1)
    rival = other(2, owner=owner_name(999, 1))

    assert machine.found(0, rival, 2) == (Superseded(rival),)


def test_of_two_that_began_together_the_younger_ends() -> None:
    """The older one begins an incarnation that takes precedence over the other's."""
    older = active()
    assert older.found(0, other(1, owner=owner_name(101, 1)), 1) == ()
    effects = older.found(0, other(2, incarnation=101, owner=owner_name(101, 1)), 1)
    assert [e.record.incarnation for e in effects if isinstance(e, WriteRecord)] == [102]

    younger = active()
    assert younger.found(0, other(1), 1) == ()
    assert younger.found(0, other(2), 1) == (Superseded(other(2)),)


def test_what_an_agent_waited_for_is_counted() -> None:
    """How long, and whether a deadline ended it; the log is not all that tells."""
    machine, _ = joined()
    machine.looked(sidecars(), {}, 0)
    machine.told(100, 0)
    assert machine.statistics().missing == (SidecarId("s"),)
    machine.advance(30)
    machine.drain(100)
    waiting = machine.statistics()
    machine.advance(130)
    machine.counted(100, 1, 0, 131)
    machine.advance(160)
    gone = machine.statistics()

    assert (waiting.state, waiting.state_since) == (NodeState.DRAINING, 100)
    assert waiting.missing == (SidecarId("s"),)
    assert waiting.deadlines_missed == {"join": 1, "publishers": 0, "subscribers": 0}
    assert (waiting.joins.count, waiting.joins.seconds) == (1, 30)
    assert gone.deadlines_missed == {"join": 1, "publishers": 1, "subscribers": 1}
    assert (gone.drains.count, gone.drains.seconds) == (1, 60)
    assert (gone.state, gone.missing, gone.incarnations, gone.sidecars) == (
        NodeState.GONE,
        (),
        1,
        1,
    )
    assert gone.heartbeat_at == 160


def test_waits_that_end_in_time_miss_no_deadline() -> None:
    """Neither a join nor a drain that every sidecar has acknowledged."""
    machine = active(sidecars(covered=COVERED))
    machine.drain(10)
    machine.looked(sidecars(stopped=COVERED), {}, 11)
    machine.counted(100, 0, 0, 12)

    assert machine.state is NodeState.GONE
    assert not any(machine.statistics().deadlines_missed.values())


@pytest.mark.parametrize(("silent", "joins"), [(10, False), (10.1, True)])
def test_a_node_silent_for_longer_than_its_lease_joins_again(silent: float, *, joins: bool) -> None:
    """Others may have removed it: the gate is closed before anything else is said."""
    machine = active()
    machine.redis_down()
    effects = machine.redis_up(redis(), silent)

    assert machine.state is (NodeState.JOINING if joins else NodeState.ACTIVE)
    assert effects[0] == (CloseGate() if joins else OpenGate())
    assert machine.statistics().incarnations == 1 + joins


def test_an_agent_that_was_stopped_joins_again() -> None:
    """Its Redis went on meanwhile, and so did the fleet without its heartbeats."""
    machine = active()
    effects = machine.overslept(50)

    assert [type(effect) for effect in effects] == [CloseGate, SetIdentity, WriteRecord]
    assert states(effects) == [NodeState.JOINING]
    machine.told(101, 51)
    assert machine.state is NodeState.ACTIVE


def test_a_draining_node_does_not_join_again() -> None:
    """However long it was silent."""
    machine = active()
    machine.looked(sidecars(), {}, 0)
    machine.drain(1)
    machine.redis_down()
    machine.redis_up(redis(), 20)

    assert machine.overslept(21) == ()
    assert machine.state is NodeState.DRAINING


def test_a_silent_node_joins_again_though_a_rival_is_watched() -> None:
    """That wait is for an agent that starts; this one has its record already."""
    machine = active()
    (record,) = node("n", incarnation=50, owner="z", state=NodeState.JOINING).values()
    machine.found(0, record, 19)
    machine.redis_down()
    effects = machine.redis_up(redis(), 20)

    assert effects[0] == CloseGate()
    assert machine.state is NodeState.JOINING
