"""How long is waited before the next attempt."""

from random import Random

import pytest

from fanout.core.backoff import Backoff, jittered, spread_seconds

DRAWS = 1000


def longest(attempt: int, members: int = 1) -> float:
    """Return the longest of many waits, to the nearest twentieth of a second."""
    rng, policy = Random(1), Backoff(first_seconds=0.05, max_seconds=5.0)
    drawn = [policy.delay_seconds(attempt, rng, members=members) for _ in range(DRAWS)]
    assert min(drawn) < max(drawn) / 100, "full jitter begins at zero"
    return round(max(drawn) * 20) / 20


@pytest.mark.parametrize(
    ("attempt", "members", "expected"),
    [
        (0, 1, 0.05),
        (1, 1, 0.1),
        (4, 1, 0.8),
        (7, 1, 5.0),
        (10_000, 1, 5.0),
        (0, 25, 0.05),
        (0, 250, 0.5),
        (1, 250, 1.0),
        (0, 100_000, 1.0),
        (2, 100_000, 4.0),
        (3, 100_000, 5.0),
    ],
)
def test_waits_double_from_what_the_fleet_needs(
    attempt: int, members: int, expected: float
) -> None:
    """The more members may come at once, the longer the first wait may be; the last is the same."""
    assert longest(attempt, members) == expected


@pytest.mark.parametrize(("members", "expected"), [(0, 0), (1, 0.002), (500, 1), (501, 1)])
def test_a_fleet_spreads_over_its_size_up_to_a_second(members: int, expected: float) -> None:
    """Two milliseconds for each."""
    assert spread_seconds(members) == expected


def test_jitter_is_a_quarter_to_both_sides() -> None:
    """Neither always early nor always late."""
    rng = Random(1)
    drawn = [jittered(2.0, rng) for _ in range(DRAWS)]

    assert 1.5 <= min(drawn) < 1.51
    assert 2.49 < max(drawn) <= 2.5


@pytest.mark.parametrize(("first", "most"), [(0.0, 5.0), (-1.0, 5.0), (2.0, 1.0)])
def test_an_impossible_policy_cannot_be_built(first: float, most: float) -> None:
    """It would wait not at all, or less and less."""
    with pytest.raises(ValueError, match="need 0 < first_seconds <= max_seconds"):
        Backoff(first_seconds=first, max_seconds=most)
