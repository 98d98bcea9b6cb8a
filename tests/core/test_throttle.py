"""Log lines about a flood: few, with the number of events."""

from hypothesis import given
from hypothesis import strategies as st

from fanout.core.throttle import BURST, INTERVAL_SECONDS, Throttle

idle = st.lists(st.sampled_from([0.0, 0.01, 0.5, 1.0, 3.0, 100.0]), max_size=80)


@given(idle)
def test_no_window_holds_more_than_the_rate_and_a_burst(idle_seconds: list[float]) -> None:
    """And every event is logged, or counted by the next one that is logged."""
    throttle, now = Throttle(), 0.0
    told: list[float] = []
    counted = waiting = 0
    for seconds in idle_seconds:
        now += seconds
        held_back = throttle.admit("kind", now)
        if held_back is None:
            waiting += 1
            continue
        assert held_back == waiting
        counted += held_back + 1
        waiting = 0
        told.append(now)
    assert counted + waiting == len(idle_seconds)
    for first, start in enumerate(told):
        for last in range(first, len(told)):
            assert last - first + 1 <= BURST + (told[last] - start) / INTERVAL_SECONDS + 1e-6


def test_a_burst_is_told_and_then_one_at_a_time() -> None:
    """However many come, at what rate ever."""
    throttle = Throttle()
    at_once = [throttle.admit("kind", 5.0) for _ in range(1000)]
    assert at_once == [0] * BURST + [None] * (1000 - BURST)
    later = [throttle.admit("kind", 5 + number / 100) for number in range(1, 301)]
    assert [each for each in later if each is not None] == [1000 - BURST + 99, 99, 99]


def test_what_is_rare_is_always_told() -> None:
    """With nothing held back."""
    throttle = Throttle()
    assert [throttle.admit("kind", float(number)) for number in range(100)] == [0] * 100


def test_one_kind_does_not_hide_another() -> None:
    """Else an attacker would choose what is not seen."""
    throttle = Throttle()
    for _ in range(1000):
        throttle.admit(("flood", "x"), 1.0)
    assert throttle.admit(("flood", "y"), 1.0) == 0
