"""Weighted round robin that spreads the heavy among the light: a pure machine.

Each turn everybody gains its weight, and the one with most is chosen and pays what all have
gained. While nobody comes or goes, everybody is chosen exactly as often as its weight says in
as many turns as the weights add up to.
Source: "Upstream: smooth weighted round-robin balancing", nginx 1.3.1, 2012.
"""

from collections.abc import Mapping
from random import Random


class RoundRobin:
    """Whose turn it is. Those to choose from are named at each turn, as they come and go."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._weights: dict[str, int] = {}
        self._credit: dict[str, float] = {}
        self._order: dict[str, float] = {}  # whom to prefer of equals; else all begin with the same

    def next(self, weights: Mapping[str, int]) -> str:
        """Return whose turn it is. Raises ValueError when there is nobody."""
        if not weights:
            raise ValueError("nobody to choose from")
        if weights != self._weights:
            self._admit(weights)
        for name, weight in weights.items():
            self._credit[name] += weight
        chosen = max(weights, key=lambda name: (self._credit[name], self._order[name]))
        self._credit[chosen] -= sum(weights.values())
        return chosen

    def _admit(self, weights: Mapping[str, int]) -> None:
        """Let some go and others come; what is owed to those who stay is as many turns as before.

        Those who go take with them what they owe. That is at most about a turn for each who
        stays, however many come and go: who comes is chosen only when nobody is owed more.
        """
        scale = sum(weights.values()) / (sum(self._weights.values()) or 1)
        self._weights = dict(weights)
        self._credit = {name: scale * self._credit.get(name, 0.0) for name in weights}
        self._order = {name: self._order.get(name) or self._rng.random() for name in weights}
