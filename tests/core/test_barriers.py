"""Order barriers: what they hold, what releases it, and for how long at most."""

import pytest

from fanout.core.barriers import OrderBarriers
from fanout.values.names import NodeId

A, B = NodeId("a"), NodeId("b")
CHANNEL = b"c"


def barriers() -> tuple[OrderBarriers[str], int]:
    """Return the barriers of a sidecar that leaves node a, where one item waits for barrier 1."""
    machine: OrderBarriers[str] = OrderBarriers(timeout_seconds=1)
    (number,) = machine.begin(frozenset([A]), frozenset([A]), 0).values()
    assert machine.blocking(CHANNEL, B) == number
    machine.hold(number, CHANNEL, "held")
    return machine, number


def test_all_receivers_release_what_is_held() -> None:
    """Answers may come before the reply of Redis, or after."""
    machine, number = barriers()
    assert machine.answered(number) == []
    assert machine.received(number, 2) == []
    assert machine.answered(number) == ["held"]
    assert not machine
    assert machine.answered(number) == []


@pytest.mark.parametrize("counted_first", [True, False])
def test_pattern_subscriptions_are_not_waited_for(*, counted_first: bool) -> None:
    """PUBLISH counts them, but a sidecar answers once: the lesser count is waited for."""
    machine, number = barriers()
    if counted_first:
        assert machine.bound(number, 2) == machine.received(number, 5) == []
    else:
        assert machine.received(number, 5) == machine.bound(number, 2) == []

    assert machine.answered(number) == []
    assert machine.answered(number) == ["held"]
    assert machine.timeouts == 0


def test_a_count_alone_releases_nothing() -> None:
    """Until Redis has replied, the barrier may not be behind the messages yet."""
    machine, number = barriers()
    assert machine.bound(number, 0) == []
    assert machine.received(number, 3) == ["held"]


def test_a_late_barrier_is_ended_and_counted() -> None:
    """Order is worth a second, not an outage."""
    machine, number = barriers()
    machine.received(number, 2)
    assert machine.next_deadline() == 1
    assert machine.expire(0.9) == []
    assert machine.expire(1) == ["held"]
    assert machine.timeouts == 1
    assert machine.next_deadline() == float("inf")


def test_a_barrier_that_was_not_published_holds_nothing() -> None:
    """The node is gone, and so is the order of what it carried."""
    machine, number = barriers()
    assert machine.pending(A)
    assert machine.lost(number) == ["held"]
    assert not machine.pending(A)


def test_a_channel_that_stays_is_not_held() -> None:
    """Only channels that move wait, and those with items before them."""
    machine: OrderBarriers[str] = OrderBarriers(timeout_seconds=1)
    (number,) = machine.begin(frozenset([A]), frozenset([A]), 0).values()
    assert machine.blocking(CHANNEL, A) is None
    machine.hold(number, CHANNEL, "held")
    assert machine.blocking(CHANNEL, A) == number
