"""Looks at pools from outside, once, by way of discovery."""

from collections.abc import Iterable
from typing import Any

from fanout.adjunct.gateway.instance import INSTANCES, InstanceRecord
from fanout.config import FleetConfig
from fanout.errors import FanoutError
from fanout.runtime.watch import open_watch
from fanout.runtime.world import World

Shown = dict[str, list[dict[str, Any]]]
"""The instances of each pool, as values of JSON."""


class NoSuchPool(FanoutError):  # noqa: N818 - an answer
    """Discovery knows no instance of the pool that was asked for."""


def shown(records: Iterable[InstanceRecord]) -> Shown:
    """Return instances by pool, in order."""
    pools: Shown = {}
    for each in sorted(records, key=lambda record: record.id):
        pools.setdefault(each.pool, []).append(
            {
                "instance": each.instance,
                "state": each.state.value,
                "address": each.address,
                "ips": list(each.ips),
                "weight": each.weight,
            }
        )
    return pools


async def read_pools(
    config: FleetConfig, pool: str | None = None, *, world: World | None = None
) -> Shown:
    """Read one pool, or all.

    Raises:
        NoSuchPool: discovery knows no instance of the pool.
        RegistryUnavailable: discovery cannot be read.

    """
    async with open_watch(config, (INSTANCES,), world=world) as (_, watch):
        pools = shown(watch.members(INSTANCES).values())
        if pool is None:
            return pools
        if pool not in pools:
            raise NoSuchPool(
                f"there is no pool {pool!r} in cluster {config.cluster}; "
                f"known: {', '.join(pools) or 'none'}"
            )
        return {pool: pools[pool]}
