"""Runs: outcomes in the order of the messages, reported once, when all are known."""

from collections.abc import Sequence
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.core.outcomes import Outcomes
from fanout.values.requests import NotPublished, Outcome, PublishRun


@given(st.lists(st.binary(min_size=1, max_size=4), min_size=1, max_size=6), st.randoms())
def test_outcomes_are_told_in_order_once_all_are_known(commands: list[bytes], rng: object) -> None:
    """In whatever order they become known."""
    told: list[Sequence[Outcome]] = []
    ends = list(accumulate(map(len, commands)))
    run = PublishRun([b"c"] * len(commands), b"".join(commands), ends)
    outcomes = Outcomes(run, told.append)
    order = list(range(len(commands)))
    rng.shuffle(order)  # type: ignore[attr-defined]
    for index in order:
        assert not told
        outcomes.settle(index, index)

    assert told == [list(range(len(commands)))]
    assert [run.command(index) for index in range(len(commands))] == commands


def test_a_message_is_settled_once() -> None:
    """A second outcome would be a lie about the first."""
    outcomes = Outcomes(PublishRun([b"c", b"c"], b"xy", [1, 2]), lambda _: None)
    outcomes.settle(0, 1)
    with pytest.raises(RuntimeError, match="twice"):
        outcomes.settle(0, NotPublished("x", "y"))
