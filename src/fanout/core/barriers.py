"""Order barriers: keep a publisher's messages in order during a planned move of a channel.

When the nodes to publish to change, a barrier is published on every node that lately carried
messages of this sidecar. Redis delivers the barrier behind those messages. Every sidecar that
receives it answers once. The number of answers to wait for is the least that was counted: the
reply to PUBLISH, which includes pattern subscriptions, and the subscribers of the control channel.
Until all have answered, messages of channels that moved away from that node are held, so that no subscriber
sees a later message from the new node before an earlier one from the old node. The wait is
bounded: after the timeout the messages are sent and may arrive out of order.
"""

from collections.abc import Mapping
from math import inf
from typing import Generic, TypeVar

import attrs

from fanout.core.placement import place
from fanout.values.names import NodeId

T = TypeVar("T")


@attrs.define(eq=False, slots=True)
class _Barrier(Generic[T]):
    """A barrier that has not been answered by all receivers."""

    node: NodeId
    deadline: float
    published: bool = False  # whether Redis has replied
    most: float = inf  # answers to wait for: the least that was counted
    answers: int = 0
    held: list[T] = attrs.field(factory=list)
    channels: set[bytes] = attrs.field(factory=set)  # of the held items

    @property
    def answered(self) -> bool:
        """Whether all receivers have answered."""
        return self.published and self.answers >= self.most


@attrs.frozen(slots=True)
class _Change:
    """A change of nodes: the nodes before the change, and the barriers published on them."""

    before: frozenset[NodeId]
    barriers: Mapping[NodeId, int]


class OrderBarriers(Generic[T]):
    """The barriers of one sidecar and the items that they hold. Falsy when none is pending."""

    def __init__(self, *, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._barriers: dict[int, _Barrier[T]] = {}  # oldest first
        self._changes: list[_Change] = []
        self._number = 0
        self.timeouts = 0
        """Barriers that timed out since the start: messages may have been reordered there."""

    def __bool__(self) -> bool:
        return bool(self._barriers)

    def begin(
        self, before: frozenset[NodeId], nodes: frozenset[NodeId], now: float
    ) -> dict[NodeId, int]:
        """Begin a barrier on each of `nodes`; return their numbers.

        `before` are the nodes on which channels were placed until now.
        """
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
            # Behind items already held, even when the channel has moved back to its node.
            if barrier is not None and (home != chosen or channel in barrier.channels):
                return number
        return None

    def hold(self, number: int, channel: bytes, item: T) -> None:
        """Hold an item until barrier `number` is answered."""
        barrier = self._barriers[number]
        barrier.held.append(item)
        barrier.channels.add(channel)

    def received(self, number: int, receivers: int) -> list[T]:
        """Record to how many receivers Redis delivered a barrier; return the released items."""
        if (barrier := self._barriers.get(number)) is not None:
            barrier.published = True
        return self.bound(number, receivers)

    def bound(self, number: int, most: int) -> list[T]:
        """Record that at most so many receivers can answer a barrier; return the released items."""
        barrier = self._barriers.get(number)
        if barrier is None:
            return []
        barrier.most = min(barrier.most, most)
        return self._end(number) if barrier.answered else []

    def answered(self, number: int) -> list[T]:
        """Record the answer of one receiver; return the released items."""
        barrier = self._barriers.get(number)
        if barrier is None:
            return []
        barrier.answers += 1
        return self._end(number) if barrier.answered else []

    def lost(self, number: int) -> list[T]:
        """Record that a barrier could not be published; return the released items."""
        return self._end(number) if number in self._barriers else []

    def expire(self, now: float) -> list[T]:
        """End the barriers that timed out; return the released items."""
        released: list[T] = []
        while self._barriers:
            number, barrier = next(iter(self._barriers.items()))
            if barrier.deadline > now:
                break
            self.timeouts += 1
            released += self._end(number)
        return released

    def next_deadline(self) -> float:
        """Return the time at which to call `expire`; infinity when idle."""
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
