"""However they come, no more than the rate get through."""

from hypothesis import given
from hypothesis import strategies as st

from fanout.core.pace import BURST_SECONDS, Pace


@given(st.integers(1, 5000), st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_no_window_holds_more_than_the_rate_and_a_burst(
    per_second: int, idle_seconds: list[float]
) -> None:
    """A sender that obeys the delays is never faster, and is not delayed without need."""
    pace = Pace(per_second)
    now = 0.0
    times = []
    for idle in idle_seconds:
        now += idle
        times.append(now)
        now += pace.delay_seconds(now)
    for first, start in enumerate(times):
        for last in range(first, len(times)):
            fits = (times[last] - start + BURST_SECONDS) * per_second + 2
            assert last - first + 1 <= fits + 1e-6


def test_a_steady_stream_below_the_rate_never_waits() -> None:
    """The limit is felt only by a burst."""
    pace = Pace(100)
    assert [pace.delay_seconds(number / 99) for number in range(500)] == [0.0] * 500


def test_a_burst_is_spread_at_the_rate() -> None:
    """What came at once waits as long as it takes."""
    pace = Pace(100)
    delays = [pace.delay_seconds(0.0) for _ in range(110)]
    assert delays[:10] == [0.0] * 10
    assert abs(delays[-1] - 1.0) < 1e-6
