"""Smooth weighted round robin: spreads the choices of a heavy candidate over time.

In each turn every candidate gains its weight as credit. The candidate with the most credit is
chosen and loses the sum of all weights. While the candidates stay the same, each is chosen
exactly `weight` times in as many turns as the sum of the weights.
Source: "Upstream: smooth weighted round-robin balancing", nginx 1.3.1, 2012.
"""

from collections.abc import Mapping
from random import Random


class RoundRobin:
    """A weighted round robin; the candidates are given at each turn, as they come and go."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._weights: dict[str, int] = {}
        self._credit: dict[str, float] = {}
        self._order: dict[str, float] = {}  # tie-breaker: else all processes begin alike

    def next(self, weights: Mapping[str, int]) -> str:
        """Return the candidate of this turn. Raises ValueError if there is none."""
        if not weights:
            raise ValueError("no candidates to choose from")
        if weights != self._weights:
            self._admit(weights)
        for name, weight in weights.items():
            self._credit[name] += weight
        chosen = max(weights, key=lambda name: (self._credit[name], self._order[name]))
        self._credit[chosen] -= sum(weights.values())
        return chosen

    def _admit(self, weights: Mapping[str, int]) -> None:
        """Change the candidates; scale the credits of those that stay to the same number of turns.

        The credit of a removed candidate is dropped, also a negative one. That is at most about one
        turn for each that stays, however many come and go: a new candidate is chosen only if no
        other has more credit.
        """
        scale = sum(weights.values()) / (sum(self._weights.values()) or 1)
        self._weights = dict(weights)
        self._credit = {name: scale * self._credit.get(name, 0.0) for name in weights}
        self._order = {name: self._order.get(name) or self._rng.random() for name in weights}
