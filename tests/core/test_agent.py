"""The node's agent: when it joins, when it carries publishes, when it leaves."""

from collections.abc import Mapping
from typing import Any

import pytest

from fanout.core.agent import Activated, Agent, Left, PublishEnd, SetIdentity, WriteRecord
from fanout.values import Endpoint, NodeId, NodeState, SidecarId, SidecarRecord

HERE = Endpoint("h", 1)


def agent() -> Agent:
    """Return an agent with round times."""
    return Agent(
        cluster="c",
        node=NodeId("n"),
        owner="o",
        started_ms=100,
        heartbeat_interval_seconds=2,
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


def test_identity_comes_before_the_record() -> None:
    """Sidecars that connect at once must already find the identity."""
    effects = agent().redis_up("r", HERE, 0)

    assert isinstance(effects[0], SetIdentity)
    assert states(effects) == [NodeState.JOINING]


def test_first_node_activates_once_discovery_was_read() -> None:
    """Without sidecars nobody is waited for, but only after having looked."""
    machine = agent()
    machine.redis_up("r", HERE, 0)

    assert machine.advance(1) == ()

    effects = machine.looked({}, 1)

    assert states(effects) == [NodeState.ACTIVE]
    assert isinstance(effects[-1], Activated) and effects[-1].missing == ()


def test_activation_waits_for_every_live_sidecar() -> None:
    """A sidecar that has not subscribed, or on an older life, holds the node back."""
    machine = agent()
    machine.redis_up("r", HERE, 0)

    assert states(machine.looked(sidecars(), 1)) == []
    assert states(machine.looked(sidecars(covered={NodeId("n"): 99}), 1)) == []
    assert states(machine.looked(sidecars(covered={NodeId("n"): 100}), 1)) == [NodeState.ACTIVE]


def test_activation_names_who_was_missing_at_the_deadline() -> None:
    """One stuck sidecar delays a join, it does not prevent it."""
    machine = agent()
    machine.redis_up("r", HERE, 0)
    machine.looked(sidecars(), 1)
    assert states(machine.advance(29.9)) == [NodeState.JOINING]  # a heartbeat

    effects = machine.advance(30)

    assert [e.missing for e in effects if isinstance(e, Activated)] == [(SidecarId("s"),)]


def test_heartbeats_vouch_for_delivery() -> None:
    """They come in their interval, stop while Redis is down, and go on when the same one returns."""
    machine = agent()
    machine.redis_up("r", HERE, 0)
    machine.looked({}, 0)
    assert machine.next_deadline() == 2
    assert machine.advance(1.9) == ()
    assert states(machine.advance(2)) == [NodeState.ACTIVE]

    machine.redis_down()

    assert machine.next_deadline() == float("inf")
    assert machine.advance(100) == ()
    assert states(machine.redis_up("r", HERE, 101)) == [NodeState.ACTIVE]


def test_a_new_redis_process_is_a_new_life() -> None:
    """Nobody may publish on it before everybody has subscribed again."""
    machine = agent()
    machine.redis_up("r", HERE, 0)
    machine.looked({}, 0)
    machine.redis_down()
    machine.outdone(500)
    effects = machine.redis_up("other", HERE, 1)

    assert states(effects) == [NodeState.JOINING]
    assert isinstance(effects[0], SetIdentity) and effects[0].identity.incarnation == 501
    assert machine.advance(1) == ()


def test_versions_grow() -> None:
    """Every record written is newer than the one before."""
    machine = agent()
    written = [
        *machine.redis_up("r", HERE, 0),
        *machine.looked({}, 0),
        *machine.advance(2),
        *machine.drain(3),
    ]
    stamps = [effect.record.stamp for effect in written if isinstance(effect, WriteRecord)]

    assert stamps == sorted(set(stamps))
    assert len(stamps) == 5


def test_drain_publishers_first_then_end_then_subscribers() -> None:
    """END follows the last publisher; goodbye follows the last subscriber."""
    machine = agent()
    machine.redis_up("r", HERE, 0)
    covered = {NodeId("n"): 100}
    machine.looked(sidecars(covered=covered), 0)

    assert states(machine.drain(1)) == [NodeState.DRAINING]
    assert machine.drain(1) == ()
    assert machine.looked(sidecars(covered=covered), 1) == ()
    assert machine.looked(sidecars(covered=covered, stopped=covered), 1) == (PublishEnd(100),)
    effects = machine.looked(sidecars(stopped=covered), 1)
    assert states(effects) == [NodeState.GONE]
    assert isinstance(effects[-1], Left)
    assert machine.next_deadline() == float("inf")


def test_drain_is_bounded() -> None:
    """A sidecar that answers nothing delays END and goodbye only to their deadlines."""
    machine = agent()
    machine.redis_up("r", HERE, 0)
    covered = {NodeId("n"): 100}
    machine.looked(sidecars(covered=covered), 0)
    machine.drain(0)

    assert PublishEnd(100) not in machine.advance(29.9)
    assert PublishEnd(100) in machine.advance(30)
    assert not any(isinstance(effect, Left) for effect in machine.advance(59.9))
    assert any(isinstance(effect, Left) for effect in machine.advance(60))


@pytest.mark.parametrize(("low", "high"), [(2, 3), (0, 0)])
def test_sidecars_of_another_protocol_are_not_waited_for(low: int, high: int) -> None:
    """They could acknowledge nothing."""
    machine = agent()
    machine.redis_up("r", HERE, 0)

    assert states(machine.looked(sidecars(protocol_min=low, protocol_max=high), 0)) == [
        NodeState.ACTIVE
    ]
