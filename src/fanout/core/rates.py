"""Rates of counters: every value per second that is shown is computed here."""

from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

DIGITS = 1
"""Decimal places of a rate. Rates are for people; more digits would only flicker."""


class Rates(Generic[K]):
    """The rates of counters between the last two samples; each is computed on access."""

    def __init__(self) -> None:
        self._at: float | None = None
        self._before: Mapping[K, int] = {}
        self._counters: Mapping[K, int] = {}
        self.seconds: float | None = None
        """The time between the last two samples; None before the second sample."""

    def advance(self, counters: Mapping[K, int], now: float) -> None:
        """Record a sample of all counters at `now`; counters missing from it are dropped."""
        self.seconds = now - self._at if self._at is not None and now > self._at else None
        self._before, self._counters, self._at = self._counters, counters, now

    def __getitem__(self, key: K) -> float | None:
        """Return the rate of a counter between the last two samples.

        None for a counter that is new or was reset.

        Raises:
            KeyError: the last sample has no such counter.

        """
        growth = self.growth(key)
        return None if growth is None or not self.seconds else round(growth / self.seconds, DIGITS)

    def growth(self, key: K) -> int | None:
        """Return the growth of a counter between the last two samples. Raises KeyError."""
        now, before = self._counters[key], self._before.get(key)
        return None if before is None or now < before else now - before
