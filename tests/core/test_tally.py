"""The most frequent names, with a fixed number of entries."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.core.tally import Tally

NAMES = st.lists(st.integers(0, 30) | st.integers(0, 1000), max_size=300)


@given(NAMES, st.integers(1, 20), st.integers(1, 50))
def test_what_is_promised_holds(names: list[int], entries_max: int, batch: int) -> None:
    """Never too low, too high by at most the error, no frequent name left out, never more entries."""
    tally: Tally[int] = Tally(entries_max)
    for begin in range(0, len(names), batch):
        tally.add(names[begin : begin + batch])

    truth = Counter(names)
    top = tally.top(entries_max + 1)
    found = {each.name: each for each in top}
    assert len(found) == len(top) == min(entries_max, len(truth))
    for name, each in found.items():
        assert each.count - each.error <= truth[name] <= each.count
        assert 0 <= each.error <= len(names) / entries_max
    frequent = {name for name, count in truth.items() if count > len(names) / entries_max}
    assert frequent <= found.keys()
    assert sum(each.count for each in top) == len(names)
    assert [each.count for each in top] == sorted((each.count for each in top), reverse=True)


@given(NAMES)
def test_few_names_are_counted_exactly(names: list[int]) -> None:
    """As long as there is an entry for each."""
    tally: Tally[int] = Tally(1031)
    tally.add(names)

    assert {each.name: (each.count, each.error) for each in tally.top(1031)} == {
        name: (count, 0) for name, count in Counter(names).items()
    }


def test_the_most_frequent_come_first_and_no_more_than_asked_for() -> None:
    """So that a list of a few needs no sorting elsewhere."""
    tally: Tally[str] = Tally(10)
    tally.add("abracadabra")

    assert [(each.name, each.count) for each in tally.top(2)] == [("a", 5), ("b", 2)]


def test_no_entries_count_nothing() -> None:
    """Which is a mistake of the caller."""
    with pytest.raises(ValueError, match="invalid entries_max 0"):
        Tally(0)
