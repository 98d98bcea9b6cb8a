"""Keeps the order of a publisher's messages when a channel moves to another node as planned.

When the nodes to publish to change, a barrier is published on every node that lately carried
messages of this sidecar. Redis delivers it behind them. Every sidecar that receives it says so,
and Redis has told how many did receive it; until all have answered, messages of channels that
moved away from that node are held. So no subscriber can see a later message on the new node
before an earlier one on the old. The wait is bounded: order is worth a moment, not an outage.
"""

from collections.abc import Mapping
from typing import Generic, TypeVar

import attrs

from fanout.core.placement import place
from fanout.values.names import NodeId

T = TypeVar("T")


@attrs.define(eq=False, slots=True)
class _Barrier(Generic[T]):
    """A barrier that not everybody has answered."""

    node: NodeId
    deadline: float
    receivers: int | None = None  # as Redis counted; None before its reply
    answers: int = 0
    held: list[T] = attrs.field(factory=list)
    channels: set[bytes] = attrs.field(factory=set)  # of what is held

    @property
    def answered(self) -> bool:
        """Whether everybody who received it has said so."""
        return self.receivers is not None and self.answers >= self.receivers


@attrs.frozen(slots=True)
class _Change:
    """A change of nodes: which there were before, and the barriers on them."""

    before: frozenset[NodeId]
    barriers: Mapping[NodeId, int]


class OrderBarriers(Generic[T]):
    """The barriers of one sidecar, and what they hold back. Falsy when nothing is nodes."""

    def __init__(self, *, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._barriers: dict[int, _Barrier[T]] = {}  # oldest first
        self._changes: list[_Change] = []
        self._number = 0
        self.timeouts = 0
        """OrderBarriers given up unanswered, ever: order may have been lost there."""

    def __bool__(self) -> bool:
        return bool(self._barriers)

    def begin(
        self, before: frozenset[NodeId], nodes: frozenset[NodeId], now: float
    ) -> dict[NodeId, int]:
        """Take that channels were placed on `before` until now; number a barrier for each `nodes`."""
        numbers = {}
        for node in sorted(nodes):
            self._number += 1
            numbers[node] = self._number
            self._barriers[self._number] = _Barrier(node, now + self._timeout_seconds)
        if numbers:
            self._changes.append(_Change(before, numbers))
        return numbers

    def blocking(self, channel: bytes, chosen: NodeId) -> int | None:
        """Return the barrier that a message on `channel` to `chosen` must wait for, if any."""
        for change in self._changes:
            home = place(channel, change.before).publish
            number = change.barriers.get(home) if home is not None else None
            barrier = self._barriers.get(number) if number is not None else None
            # Behind what is held already, even when the channel has come back to its node.
            if barrier is not None and (home != chosen or channel in barrier.channels):
                return number
        return None

    def hold(self, number: int, channel: bytes, item: T) -> None:
        """Hold an item until barrier `number` is answered."""
        barrier = self._barriers[number]
        barrier.held.append(item)
        barrier.channels.add(channel)

    def received(self, number: int, receivers: int) -> list[T]:
        """Redis delivered the barrier to so many; return what is held no more."""
        barrier = self._barriers.get(number)
        if barrier is None:
            return []
        barrier.receivers = receivers
        return self._end(number) if barrier.answered else []

    def answered(self, number: int) -> list[T]:
        """One of its receivers has answered; return what is held no more."""
        barrier = self._barriers.get(number)
        if barrier is None:
            return []
        barrier.answers += 1
        return self._end(number) if barrier.answered else []

    def lost(self, number: int) -> list[T]:
        """The barrier could not be published; return what is held no more."""
        return self._end(number) if number in self._barriers else []

    def expire(self, now: float) -> list[T]:
        """Give up barriers that took too long; return what is held no more."""
        freed: list[T] = []
        while self._barriers:
            number, barrier = next(iter(self._barriers.items()))
            if barrier.deadline > now:
                break
            self.timeouts += 1
            freed += self._end(number)
        return freed

    def next_deadline(self) -> float:
        """Return when `expire` has something to do; infinity when idle."""
        return next((barrier.deadline for barrier in self._barriers.values()), float("inf"))

    def pending(self, node: NodeId) -> bool:
        """Return whether a barrier on `node` is not answered yet."""
        return any(barrier.node == node for barrier in self._barriers.values())

    def _end(self, number: int) -> list[T]:
        barrier = self._barriers.pop(number)
        self._changes = [
            change
            for change in self._changes
            if any(each in self._barriers for each in change.barriers.values())
        ]
        return barrier.held
