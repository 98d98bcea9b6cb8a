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
from fanout.core.round_robin import RoundRobin
from fanout.errors import FanoutError
from fanout.runtime.watch import Watch
from fanout.values import NodeState


class GatewayError(FanoutError):
    """A user cannot be handed out; `code` is stable."""

    code = ""


class UnknownPool(GatewayError):  # noqa: N818 - a fact
    """No instance of this pool is there, or was until lately."""

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
        """Return the present instances of every pool, by pool and by their names."""
        if self._seen.is_set():
            self._learn()
        return self._pools

    def pick(self, pool: str, returning: str | None = None) -> Pick:
        """Choose an instance for a user.

        Args:
            pool: the pool.
            returning: the token that the user was given the last time, if it has that.

        Raises:
            UnknownPool: no instance of it is there, or was in the last ten minutes.
            NoInstance: none of its instances is active, or discovery was not read yet.

        """
        instances = self.instances().get(pool, {})
        active = {n: each for n, each in instances.items() if each.state is NodeState.ACTIVE}
        if not active:
            raise self._nobody(pool)
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

    def _nobody(self, pool: str) -> GatewayError:
        """Return why a pool has no active instance."""
        if not self._watch.ever_read:
            return NoInstance("discovery was not read yet; try again")
        late = (each.pool for each in self._watch.absent(INSTANCES))
        if pool in self._pools or pool in late:
            return NoInstance(f"no instance of pool {pool!r} is active now; try again")
        return UnknownPool(f"there is no pool {pool[:64]!r} here")

    def _known(self, pool: str, token: str | None) -> str | None:
        """Return the instance that a token names."""
        if self._affinity is None or token is None:
            return None
        return self._affinity.instance(token, pool, self._wall_seconds())

    def _learn(self) -> None:
        """Sort what is known by pools."""
        self._seen = self._watch.changed
        self._pools = {}
        for record in self._watch.members(INSTANCES).values():
            self._pools.setdefault(record.pool, {})[record.instance] = record
        self._robins = {
            pool: self._robins.get(pool) or RoundRobin(self._rng) for pool in self._pools
        }
