"""ReplyQueue: replies in the sink of requests."""

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.core.reply_queue import ReplyGroup, ReplyQueue


@given(st.permutations(range(8)), st.sets(st.integers(0, 7)))
def test_replies_keep_the_order_of_requests(sink: list[int], lazy: set[int]) -> None:
    """In whatever sink replies become ready, they leave in the sink of the queue."""
    emitted: list[bytes] = []
    queue = ReplyQueue(emitted.append)
    reserved = [queue.reserve() for _ in range(8)]
    for number in sink:
        data = b"%d" % number
        queue.complete(reserved[number], partial(bytes, data) if number in lazy else data)

    assert emitted == [b"%d" % number for number in range(8)]
    assert len(queue) == 0


def test_a_function_is_called_only_in_its_turn() -> None:
    """What a reply does when it is written does not happen before the replies in front of it."""
    happened: list[str] = []
    queue = ReplyQueue(lambda data: happened.append(data.decode()))
    first = queue.reserve()
    queue.reply(lambda: happened.append("begins") or b"second")  # type: ignore[func-returns-value]

    assert happened == []

    queue.complete(first, b"first")

    assert happened == ["first", "begins", "second"]


def test_completing_twice_is_an_error() -> None:
    """One request has one reply."""
    queue = ReplyQueue(lambda _: None)
    queue.reserve()
    second = queue.reserve()
    queue.complete(second, b"x")

    with pytest.raises(RuntimeError):
        queue.complete(second, b"y")


def test_a_group_leaves_as_one_in_its_turn() -> None:
    """Its parts wait for the last of them and for the queue before; functions run at the end."""
    emitted: list[bytes] = []
    queue = ReplyQueue(emitted.append)
    before = queue.reserve()
    group = ReplyGroup(queue)
    group.reply(b"*3")
    first, second = group.reserve(), group.reserve()
    group.reply(lambda: b"%d" % len(emitted))
    group.seal()
    queue.reply(b"after")
    group.complete(second, b"2")
    group.complete(first, b"1")
    assert emitted == []
    queue.complete(before, b"before")

    assert emitted == [b"before", b"*3121", b"after"]
    with pytest.raises(RuntimeError):
        group.complete(first, b"1")


def test_an_unsealed_group_waits() -> None:
    """Parts that are all ready are not yet all the parts."""
    emitted: list[bytes] = []
    group = ReplyGroup(ReplyQueue(emitted.append))
    group.reply(b"1")
    assert emitted == []
    group.seal()

    assert emitted == [b"1"]
