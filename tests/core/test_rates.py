"""How fast counters grow between two looks."""

from hypothesis import given
from hypothesis import strategies as st

from fanout.core.rates import Rates


def advance(rates: Rates[str], counters: dict[str, int], now: float) -> dict[str, float | None]:
    """Look at counters; return all rates."""
    rates.advance(counters, now)
    return {key: rates[key] for key in counters}


def test_nothing_is_known_at_the_first_look() -> None:
    """Not even that nothing happens."""
    rates: Rates[str] = Rates()

    assert advance(rates, {"a": 5}, now=10) == {"a": None}
    assert rates.seconds is None


def test_a_rate_is_what_came_since_the_last_look_per_second() -> None:
    """Whatever time that took."""
    rates: Rates[str] = Rates()
    advance(rates, {"a": 5, "b": 0}, now=10)

    assert advance(rates, {"a": 25, "b": 0}, now=12) == {"a": 10, "b": 0}
    assert rates.seconds == 2
    assert advance(rates, {"a": 26, "b": 1}, now=15) == {"a": 0.3, "b": 0.3}


def test_who_is_new_or_begins_anew_has_no_rate_yet() -> None:
    """A client that connected, a node in a new incarnation; those that left are removed."""
    rates: Rates[str] = Rates()
    advance(rates, {"a": 5, "b": 7}, now=0)

    assert advance(rates, {"a": 4, "c": 9}, now=1) == {"a": None, "c": None}
    assert advance(rates, {"a": 6, "b": 9, "c": 9}, now=2) == {"a": 2, "b": None, "c": 0}


def test_two_looks_at_the_same_moment_divide_by_nothing() -> None:
    """The later one counts as the first."""
    rates: Rates[str] = Rates()
    advance(rates, {"a": 5}, now=1)

    assert advance(rates, {"a": 6}, now=1) == {"a": None}
    assert advance(rates, {"a": 8}, now=2) == {"a": 2}


@given(st.lists(st.integers(0, 10**9), min_size=2, max_size=20), st.floats(0.1, 10))
def test_rates_add_up_to_the_counter(steps: list[int], seconds: float) -> None:
    """Nothing is lost between looks, but for what is rounded."""
    rates: Rates[str] = Rates()
    total, shown = 0, 0.0
    for number, step in enumerate(steps):
        total += step
        rate = advance(rates, {"a": total}, now=number * seconds)["a"]
        shown += (rate or 0) * seconds

    assert abs(shown - (total - steps[0])) <= len(steps) * seconds * 0.06 + 1e-6 * total
