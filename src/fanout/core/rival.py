"""Notices another agent that lives under the same node id.

Two agents with one id would write one record in turns. A record in discovery may also be what a
crashed predecessor left; only one that is renewed while we look belongs to somebody who lives.
Renewed means within one discovery instance: another may just have missed the last of the dead.
The older of two keeps the id: the names of owners begin with the time they were started.
"""

from math import inf
from typing import Protocol

from fanout.values.names import Endpoint
from fanout.values.records import NodeRecord, NodeState


def owner_name(started_ms: int, nonce: int) -> str:
    """Return the name of an agent: it sorts by age, and no two are the same."""
    return f"{started_ms:016d}-{nonce:032x}"


class OwnRedis(Protocol):
    """Where the agent's own Redis is."""

    @property
    def endpoint(self) -> Endpoint:
        """Its address."""

    @property
    def run_id(self) -> str:
        """Its run."""


class Rival:
    """What one agent knows of the others under its node id.

    Args:
        owner: this agent's name.
        watch_seconds: how long somebody else's record must stay the same to be taken for dead.

    """

    def __init__(self, owner: str, *, watch_seconds: float) -> None:
        self._owner = owner
        self._watch_seconds = watch_seconds
        self._records: dict[int, NodeRecord] = {}  # the last of each instance
        self._record: NodeRecord | None = None
        self.lives = False
        """Whether somebody else's record was renewed while we looked."""
        self.clear_at = inf
        """From when on nobody else is believed to live; infinity before the first look."""

    @property
    def is_older(self) -> bool:
        """Whether the other was started before this agent."""
        return self._record is not None and self._record.owner < self._owner

    def looked(self, now: float) -> None:
        """Discovery was read; what it holds of this id was passed to `found` before."""
        if self.clear_at == inf:
            self.clear_at = now

    def found(self, instance: int, record: NodeRecord, redis: OwnRedis | None, now: float) -> None:
        """Take somebody else's record of this node id, as one discovery instance has it."""
        before = self._records.get(instance)
        if before is not None and record.stamp <= before.stamp:
            return
        is_first = not self._records
        self._records[instance] = record
        if record.state is NodeState.GONE:
            self.lives = False
        elif before is not None and before.owner == record.owner:
            self.lives = True
        if self._record is None or record.stamp > self._record.stamp or self.lives:
            self._record = record
        replaced = (
            redis is not None
            and record.endpoint == redis.endpoint
            and record.run_id != redis.run_id  # our Redis has its address, so it cannot live
        )
        if is_first and not replaced and record.state is not NodeState.GONE:
            self.clear_at = now + self._watch_seconds
