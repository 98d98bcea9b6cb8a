"""How fast counters grow: what is shown per second is computed here and nowhere else."""

from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

DIGITS = 1
"""Rates are for people: behind the point they would only flicker."""


class Rates(Generic[K]):
    """Differences of counters between two looks at them."""

    def __init__(self) -> None:
        self._at: float | None = None
        self._counters: Mapping[K, float] = {}
        self.seconds: float | None = None
        """The time that the last rates speak of; None before the second look."""

    def advance(self, counters: Mapping[K, float], now: float) -> dict[K, float | None]:
        """Take what the counters say at `now`; return by how much each grew per second since.

        None for a counter that was not there before, or has begun anew: nothing is known of it.
        Counters that are not given any more are forgotten.
        """
        before, began = self._counters, self._at
        self._counters, self._at = counters, now
        if began is None or now <= began:
            self.seconds = None
            return dict.fromkeys(counters)
        self.seconds = now - began
        return {
            key: None
            if (last := before.get(key)) is None or value < last
            else round((value - last) / self.seconds, DIGITS)
            for key, value in counters.items()
        }
