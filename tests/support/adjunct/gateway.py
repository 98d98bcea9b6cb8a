"""Instances of a pool, and the fleet that a gateway sees."""

import random
from typing import Any

import pytest

from fanout.adjunct.gateway import INSTANCES, GatewayError, InstanceRecord, Pools
from fanout.runtime.discovery.watch import Watch
from fanout.values.records import NodeState, Snapshot

SECRET = "s3cret"


def instance(name: str, state: NodeState = NodeState.ACTIVE, **other: Any) -> InstanceRecord:
    """Return a record."""
    values: dict[str, Any] = {
        "cluster": "default", "pool": "web", "incarnation": 1, "version": 1, "lease_seconds": 30.0,
        "address": f"https://{name}.example", **other,
    }  # fmt: skip
    return InstanceRecord(instance=name, state=state, **values)


class Fleet:
    """What discovery says, and pools over that."""

    def __init__(self, *, secret: str = SECRET) -> None:
        self.watch = Watch("default", (INSTANCES,), instances=1)
        self.pools = Pools(self.watch, "default", secret, random.Random(1))
        self._versions = 1

    def say(self, *instances: InstanceRecord) -> None:
        """Have discovery list these, as news."""
        self.watch.on_snapshot(0, Snapshot(further=instances))

    def move(self, name: str, state: NodeState, **other: Any) -> None:
        """Have one instance change its state."""
        self._versions += 1
        self.say(instance(name, state, version=self._versions, **other))

    def code(self, pool: str) -> str:
        """Return why a user of a pool is not handed out."""
        with pytest.raises(GatewayError, match=repr(pool)) as refused:
            self.pools.pick(pool)
        return refused.value.code
