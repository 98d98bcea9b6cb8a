"""Which instance gets a user.

Rules
- New users go round robin over the active instances of a pool, by weight and smoothly: of weights
  5, 1, 1 the first is not chosen five times in a row. Each process that hands out does so by
  itself; together they are as fair as each alone.
- A returning user, one with a token, goes to the instance it names while that is active.
- A draining instance gets nobody, returning or not. Whoever asks is about to connect; where the
  instance is about to leave, that connection would have to move again within seconds. Those who
  are connected have not asked, and stay until it leaves.
"""

from collections.abc import Callable, Mapping
from random import Random

import attrs

from fanout.adjunct.gateway.affinity import Affinity
from fanout.adjunct.gateway.instance import INSTANCES, InstanceRecord
from fanout.errors import FanoutError
from fanout.runtime.watch import Watch
from fanout.values import NodeState

POOLS_MAX = 1024
"""Pools without instances that are still known as pools."""


class GatewayError(FanoutError):
    """A user cannot be handed out; `code` is stable."""

    code = ""


class UnknownPool(GatewayError):  # noqa: N818 - a fact
    """No instance of this pool has been seen since this process started."""

    code = "NOPOOL"


class NoInstance(GatewayError):  # noqa: N818 - a fact
    """The pool has no active instance now."""

    code = "NOINSTANCE"


@attrs.frozen(kw_only=True)
class Pick:
    """What a user is told."""

    pool: str
    instance: str
    address: str
    token: str | None  # to come back with; None where no secret is set
    returning: bool  # whether it was the token that decided


class RoundRobin:
    """Weighted round robin that spreads the heavy among the light.

    Each turn everybody gains its weight, and the one with most is chosen and pays what all have
    gained. While nobody comes or goes, everybody is chosen exactly as often as its weight says in
    as many turns as the weights add up to.
    Source: "Upstream: smooth weighted round-robin balancing", nginx 1.3.1, 2012.
    """

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


class Pools:
    """Hands out users by what discovery tells.

    Args:
        watch: over `INSTANCES`; from a sidecar or `fanout.runtime.watch.open_watch`.
        affinity: makes and reads tokens; None: every user is new.
        rng: for who is first.
        wall_seconds: the time in seconds since 1970.

    """

    def __init__(
        self,
        watch: Watch,
        *,
        affinity: Affinity | None,
        rng: Random,
        wall_seconds: Callable[[], float],
    ) -> None:
        self._watch = watch
        self._affinity = affinity
        self._rng = rng
        self._wall_seconds = wall_seconds
        self._robins: dict[str, RoundRobin] = {}
        self._pools: dict[str, dict[str, InstanceRecord]] = {}
        self._learn()

    def instances(self) -> Mapping[str, Mapping[str, InstanceRecord]]:
        """Return the present instances of every pool seen so far, by pool and by their names."""
        if self._seen.is_set():
            self._learn()
        return self._pools

    def pick(self, pool: str, returning: str | None = None) -> Pick:
        """Choose an instance for a user.

        Args:
            pool: the pool.
            returning: the token that the user was given the last time, if it has that.

        Raises:
            UnknownPool: no instance of it has been seen.
            NoInstance: none of its instances is active.

        """
        instances = self.instances().get(pool)
        if instances is None:
            raise UnknownPool(f"there is no pool {pool[:64]!r} here")
        active = {n: each for n, each in instances.items() if each.state is NodeState.ACTIVE}
        if not active:
            raise NoInstance(f"no instance of pool {pool!r} is active now; try again")
        known = self._known(pool, returning)
        name = known if known in active else None
        if name is None:
            name = self._robins[pool].next({n: each.weight for n, each in active.items()})
        token = None
        if self._affinity is not None:
            token = self._affinity.token(pool, name, self._wall_seconds())
        return Pick(
            pool=pool,
            instance=name,
            address=active[name].address,
            token=token,
            returning=name == known,
        )

    def _known(self, pool: str, token: str | None) -> str | None:
        """Return the instance that a token names."""
        if self._affinity is None or token is None:
            return None
        return self._affinity.instance(token, pool, self._wall_seconds())

    def _learn(self) -> None:
        """Sort what is known by pools. One whose instances are all gone is still a pool."""
        self._seen = self._watch.changed
        self._pools = {pool: {} for pool in list(self._pools)[-POOLS_MAX:]}
        for record in self._watch.members(INSTANCES).values():
            self._pools.setdefault(record.pool, {})[record.instance] = record
        self._robins = {
            pool: self._robins.get(pool) or RoundRobin(self._rng) for pool in self._pools
        }
