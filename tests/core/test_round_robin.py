"""Round robin by weight while members come and go."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.core.round_robin import RoundRobin

WEIGHTS = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 50), min_size=1, max_size=8)
SLACK_TURNS = 2


@given(weights=WEIGHTS, rounds=st.integers(1, 3), seed=st.integers(0, 9))
def test_everybody_gets_exactly_its_share(weights: dict[str, int], rounds: int, seed: int) -> None:
    """In as many turns as the weights add up to, and never far from it in between."""
    robin, total, got = RoundRobin(random.Random(seed)), sum(weights.values()), Counter[str]()
    for turn in range(1, rounds * total + 1):
        got[robin.next(weights)] += 1
        for name, weight in weights.items():
            assert abs(got[name] - turn * weight / total) < SLACK_TURNS

    assert got == {name: rounds * weight for name, weight in weights.items()}


@given(history=st.lists(st.tuples(WEIGHTS, st.integers(0, 60)), max_size=20), last=WEIGHTS)
def test_whatever_came_and_went_shares_are_right_from_now_on(
    history: list[tuple[dict[str, int], int]], last: dict[str, int]
) -> None:
    """No debt and no credit of those who left, or of other weights, is paid by those who are here."""
    robin, total, got = RoundRobin(random.Random(1)), sum(last.values()), Counter[str]()
    for weights, turns in history:
        for _ in range(turns):
            assert robin.next(weights) in weights
    for turn in range(1, 2 * total + 1):
        got[robin.next(last)] += 1
        for name, weight in last.items():
            assert abs(got[name] - turn * weight / total) < SLACK_TURNS


def test_those_who_came_and_went_do_not_hold_up_the_next() -> None:
    """Twenty that were chosen and left had their users: the next one is not the poorer for it."""
    robin = RoundRobin(random.Random(1))
    for number in range(20):
        assert robin.next({"a": 1, "b": 1, f"x{number}": 50}) == f"x{number}"
    turns = [robin.next({"a": 1, "b": 1, "y": 1}) for _ in range(9)]

    assert turns.count("y") >= 2


def test_the_heavy_are_spread_among_the_light() -> None:
    """Not five in a row and then the others."""
    robin = RoundRobin(random.Random(1))
    turns = "".join(robin.next({"a": 5, "b": 1, "c": 1}) for _ in range(7))

    assert turns.count("a") == 5
    assert "aaa" not in turns


def test_processes_do_not_all_begin_with_the_same() -> None:
    """Or the first users of many sidecars would meet on one instance."""
    weights = dict.fromkeys("abcdefgh", 1)

    assert len({RoundRobin(random.Random(seed)).next(weights) for seed in range(50)}) > 4


def test_nobody_to_choose_from_is_an_error() -> None:
    """The caller knows what to say then."""
    with pytest.raises(ValueError, match="no candidates"):
        RoundRobin(random.Random(1)).next({})
