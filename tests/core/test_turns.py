"""Turns: replies in the order of requests."""

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.core.turns import Group, Turns


@given(st.permutations(range(8)), st.sets(st.integers(0, 7)))
def test_replies_keep_the_order_of_requests(order: list[int], lazy: set[int]) -> None:
    """In whatever order replies become ready, they leave in the order of the turns."""
    emitted: list[bytes] = []
    turns = Turns(emitted.append)
    reserved = [turns.reserve() for _ in range(8)]
    for number in order:
        data = b"%d" % number
        turns.complete(reserved[number], partial(bytes, data) if number in lazy else data)

    assert emitted == [b"%d" % number for number in range(8)]
    assert len(turns) == 0


def test_a_function_is_called_only_in_its_turn() -> None:
    """What a reply does when it is written does not happen before the replies in front of it."""
    happened: list[str] = []
    turns = Turns(lambda data: happened.append(data.decode()))
    first = turns.reserve()
    turns.reply(lambda: happened.append("begins") or b"second")  # type: ignore[func-returns-value]

    assert happened == []

    turns.complete(first, b"first")

    assert happened == ["first", "begins", "second"]


def test_completing_twice_is_an_error() -> None:
    """One request has one reply."""
    turns = Turns(lambda _: None)
    turns.reserve()
    second = turns.reserve()
    turns.complete(second, b"x")

    with pytest.raises(RuntimeError):
        turns.complete(second, b"y")


def test_a_group_leaves_as_one_in_its_turn() -> None:
    """Its parts wait for the last of them and for the turns before; functions run at the end."""
    emitted: list[bytes] = []
    turns = Turns(emitted.append)
    before = turns.reserve()
    group = Group(turns)
    group.reply(b"*3")
    first, second = group.reserve(), group.reserve()
    group.reply(lambda: b"%d" % len(emitted))
    group.seal()
    turns.reply(b"after")
    group.complete(second, b"2")
    group.complete(first, b"1")
    assert emitted == []
    turns.complete(before, b"before")

    assert emitted == [b"before", b"*3121", b"after"]
    with pytest.raises(RuntimeError):
        group.complete(first, b"1")


def test_an_unsealed_group_waits() -> None:
    """Parts that are all ready are not yet all the parts."""
    emitted: list[bytes] = []
    group = Group(Turns(emitted.append))
    group.reply(b"1")
    assert emitted == []
    group.seal()

    assert emitted == [b"1"]
