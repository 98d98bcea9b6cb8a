"""Replies are matched with commands first in, first out, however they come and whatever is lost."""

from collections.abc import Sequence
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.core.in_flight import Answer, InFlight
from fanout.errors import LinkLost


@given(
    st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=5), max_size=6),
    st.lists(st.integers(1, 7)),
    st.integers(0, 40),
    st.integers(0, 200),
)
def test_every_command_gets_one_answer(
    sizes: list[list[int]], reads: list[int], answered: int, handed: int
) -> None:
    """The replies in order, then losses, which say whether the whole command was sent."""
    flight = InFlight()
    answers: dict[int, list[Answer]] = {}
    for number, group in enumerate(sizes):

        def keep(found: list[Answer], number: int = number) -> None:
            assert number not in answers
            answers[number] = list(found)

        flight.expect(list(accumulate(group)), keep)
    total = sum(map(len, sizes))
    replies: list[Answer] = list(range(min(answered, total)))
    at = 0
    for size in [*reads, total]:
        flight.take(replies[at : at + size])
        at += size
    taken = len(replies)

    assert flight.answered == taken
    whole = [list(part) for part in split(range(total), sizes) if part[-1] < taken]
    assert [answers[number] for number in sorted(answers)] == whole

    flight.lose("gone", handed)

    assert len(flight) == 0
    flat = [answer for number in range(len(sizes)) for answer in answers[number]]
    ends = list(accumulate(size for group in sizes for size in group))
    assert flat[:taken] == replies
    assert all(isinstance(each, LinkLost) for each in flat[taken:])
    assert [each.written for each in flat[taken:]] == [end <= handed for end in ends[taken:]]


def split(items: range, sizes: list[list[int]]) -> list[Sequence[int]]:
    """Cut a row into parts as long as those."""
    ends = list(accumulate(map(len, sizes)))
    return [items[end - len(size) : end] for end, size in zip(ends, sizes, strict=True)]


def test_pushes_answer_their_own_command() -> None:
    """Those of a command between others are counted towards it; its bytes count as well."""
    flight, answers = InFlight(), list[Answer]()
    flight.expect((3,), answers.extend)
    flight.expect_pushes(10, 2)
    flight.expect((3,), answers.extend)
    flight.take([1])
    flight.confirm()
    flight.confirm()

    assert flight.answered == 2

    flight.lose("gone", 15)

    assert answers[0] == 1
    assert not answers[1].written


@pytest.mark.parametrize(("pushes", "says"), [(0, "unexpected reply"), (1, "refused")])
def test_a_reply_out_of_place_ends_the_link(pushes: int, says: str) -> None:
    """There is no way to know what else is wrong."""
    flight = InFlight()
    if pushes:
        flight.expect_pushes(10, pushes)

    with pytest.raises(LinkLost, match=says):
        flight.take(["ERR"])


def test_a_push_that_nobody_asked_for_ends_the_link() -> None:
    """Redis has withdrawn a subscription; also while an ordinary command waits."""
    flight = InFlight()
    with pytest.raises(LinkLost, match="withdrawn"):
        flight.confirm()
    flight.expect((3,), lambda _: None)
    with pytest.raises(LinkLost, match="withdrawn"):
        flight.confirm()


def test_a_callback_may_expect_more_or_end_it_all() -> None:
    """What is tried again comes behind what waits; what was read too late answers nothing."""
    flight, seen = InFlight(), list[Answer]()

    def again(answers: list[Answer]) -> None:
        seen.extend(answers)
        flight.expect((3,), seen.extend)

    flight.expect((3,), again)
    flight.expect((3,), seen.extend)
    flight.take([1, 2])

    assert seen == [1, 2]

    flight.take([3])

    assert seen == [1, 2, 3]
