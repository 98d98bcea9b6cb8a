"""Heavy hitters: the most frequent of very many names, counted with a fixed number of entries.

This is Space-Saving (Metwally, Agrawal, El Abbadi 2005) on its Stream-Summary: names are kept in
buckets of equal counts, so that counting a known name and replacing the least frequent name by a
new one both take constant time, even if no name occurs twice.

Guarantees: an estimate is never too low, and at most `error` too high; a name that occurred more
than `total / entries_max` times is always among the entries.
"""

from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

import attrs

N = TypeVar("N", bound=Hashable)


@attrs.frozen
class Entry(Generic[N]):
    """One frequent name."""

    name: N
    count: int  # upper bound
    error: int  # `count - error` is the lower bound


class Tally(Generic[N]):
    """Counts the most frequent names.

    Args:
        entries_max: the number of names kept; at least 1.

    """

    def __init__(self, entries_max: int) -> None:
        if entries_max < 1:
            raise ValueError(f"invalid entries_max {entries_max}: expected at least 1")
        self._entries_max = entries_max
        self._counts: dict[N, int] = {}
        self._errors: dict[N, int] = {}  # of names that replaced another one
        self._buckets: dict[int, dict[N, None]] = {}  # count -> names
        self._least = 0  # count of the least frequent entry

    def add(self, names: Iterable[N]) -> None:
        """Count each of `names` once more."""
        for name in names:
            count = self._counts.get(name)
            if count is None:
                count = self._make_room(name)
            else:
                self._drop(name, count)
            self._counts[name] = count + 1
            self._buckets.setdefault(count + 1, {})[name] = None
            if self._least not in self._buckets:
                self._least = min(self._buckets)

    def top(self, most: int) -> list[Entry[N]]:
        """Return at most `most` entries, most frequent first."""
        found: list[Entry[N]] = []
        for count in sorted(self._buckets, reverse=True):
            for name in self._buckets[count]:
                if len(found) == most:
                    return found
                found.append(Entry(name, count, self._errors.get(name, 0)))
        return found

    def _make_room(self, name: N) -> int:
        """Return the initial count of a new name: that of the entry it replaces, else 0."""
        if len(self._counts) < self._entries_max:
            self._least = 0
            return 0
        least = self._least
        replaced = next(iter(self._buckets[least]))
        self._drop(replaced, least)
        del self._counts[replaced]
        self._errors.pop(replaced, None)
        self._errors[name] = least
        return least

    def _drop(self, name: N, count: int) -> None:
        bucket = self._buckets[count]
        del bucket[name]
        if not bucket:
            del self._buckets[count]
