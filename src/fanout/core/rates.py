"""How fast counters grow: what is shown per second is computed here and nowhere else."""

from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

DIGITS = 1
"""Rates are for people: behind the point they would only flicker."""


class Rates(Generic[K]):
    """Differences of counters between two looks at them; a rate is computed when it is asked for."""

    def __init__(self) -> None:
        self._at: float | None = None
        self._before: Mapping[K, int] = {}
        self._counters: Mapping[K, int] = {}
        self.seconds: float | None = None
        """The time that the rates speak of; None before the second look."""

    def advance(self, counters: Mapping[K, int], now: float) -> None:
        """Take what all counters say at `now`; those that are not given any more are forgotten."""
        self.seconds = now - self._at if self._at is not None and now > self._at else None
        self._before, self._counters, self._at = self._counters, counters, now

    def __getitem__(self, key: K) -> float | None:
        """Return by how much a counter grew per second between the last two looks.

        None for a counter that was not there before, or has begun anew: nothing is known of it.

        Raises:
            KeyError: the last look had no such counter.

        """
        growth = self.growth(key)
        return None if growth is None or not self.seconds else round(growth / self.seconds, DIGITS)

    def growth(self, key: K) -> int | None:
        """Return by how much a counter grew between the last two looks. Raises KeyError."""
        now, before = self._counters[key], self._before.get(key)
        return None if before is None or now < before else now - before
