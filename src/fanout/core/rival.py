"""Detects another agent that runs with the same node id.

Two agents with one id would overwrite each other's record. A record in discovery may also be left
over from a crashed predecessor; only a record that is renewed while this agent watches belongs to
a running agent. The renewal must appear within one discovery instance: another instance may just
have missed the last record of a dead agent. The older of two agents keeps the id: an owner name
begins with the start time of the agent.
"""

from math import inf
from typing import Protocol

from fanout.values.names import Endpoint
from fanout.values.records import NodeRecord, NodeState


def owner_name(started_ms: int, nonce: int) -> str:
    """Return the unique name of an agent; names sort by start time."""
    return f"{started_ms:016d}-{nonce:032x}"


class OwnRedis(Protocol):
    """The agent's own Redis server."""

    @property
    def endpoint(self) -> Endpoint:
        """Its address."""

    @property
    def run_id(self) -> str:
        """Its run id; a new process has a new one."""


class Rival:
    """The other agents with the node id of one agent.

    Args:
        owner: the name of this agent.
        watch_seconds: how long another agent's record must be unchanged to count as dead.

    """

    def __init__(self, owner: str, *, watch_seconds: float) -> None:
        self._owner = owner
        self._watch_seconds = watch_seconds
        self._records: dict[int, NodeRecord] = {}  # the last record in each instance
        self._record: NodeRecord | None = None
        self.lives = False
        """Whether another agent's record was renewed while this agent watched."""
        self.clear_at = inf
        """The time from which no other agent is presumed alive; infinity before the first read."""

    @property
    def is_older(self) -> bool:
        """Whether the other agent was started before this one."""
        return self._record is not None and self._record.owner < self._owner

    def looked(self, now: float) -> None:
        """Record that discovery was read, after its records of this id were passed to `found`."""
        if self.clear_at == inf:
            self.clear_at = now

    def found(self, instance: int, record: NodeRecord, redis: OwnRedis | None, now: float) -> None:
        """Record another agent's record of this node id from one discovery instance."""
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
            and record.run_id != redis.run_id  # our Redis has the address, so that one is dead
        )
        if is_first and not replaced and record.state is not NodeState.GONE:
            self.clear_at = now + self._watch_seconds
