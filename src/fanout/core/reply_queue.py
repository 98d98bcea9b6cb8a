"""Replies leave in the sink of their requests, however late each is known.

A client may send many requests without waiting; one answered by a remote node is ready later
than the one after it. Each request takes a slot; a reply that is ready waits for the queue before
it. A reply may be a function: it is called at the very moment its bytes go out, which is where a
subscription begins or ends for the client.
"""

from collections import deque
from collections.abc import Callable
from typing import Protocol

from fanout.values.requests import Ready


class ReplySlot:
    """The place of one reply."""

    __slots__ = ("ready", "requests")

    def __init__(self, requests: int = 1) -> None:
        self.ready: Ready | None = None
        self.requests = requests  # that it answers


def _bytes(ready: Ready) -> bytes:
    return ready if isinstance(ready, bytes) else ready()


class ReplySink(Protocol):
    """Where replies take their queue."""

    def reserve(self, requests: int = 1) -> ReplySlot:
        """Take the next slot, for a reply to so many requests in a row."""

    def complete(self, slot: ReplySlot, ready: Ready) -> None:
        """Make a reply ready, once."""

    def reply(self, ready: Ready) -> None:
        """Answer a request at once, in its slot."""


class ReplyQueue:
    """The replies one client waits for. Its length is the number of requests they answer."""

    __slots__ = ("_emit", "_requests", "_waiting")

    def __init__(self, emit: Callable[[bytes], None]) -> None:
        self._emit = emit
        self._waiting: deque[ReplySlot] = deque()
        self._requests = 0

    def __len__(self) -> int:
        return self._requests

    def reserve(self, requests: int = 1) -> ReplySlot:
        """Take the next slot, for a reply to so many requests in a row."""
        slot = ReplySlot(requests)
        self._waiting.append(slot)
        self._requests += requests
        return slot

    def complete(self, slot: ReplySlot, ready: Ready) -> None:
        """Make a reply ready, once; emit it and those behind it that are ready."""
        if slot.ready is not None:
            raise RuntimeError("a slot was completed twice")
        slot.ready = ready
        waiting = self._waiting
        while waiting and (ready_now := waiting[0].ready) is not None:
            self._requests -= waiting.popleft().requests
            self._emit(_bytes(ready_now))

    def reply(self, ready: Ready) -> None:
        """Answer a request at once, in its slot."""
        if self._waiting:
            self.complete(self.reserve(), ready)
        else:
            self._emit(_bytes(ready))


class ReplyGroup:
    """Several replies that leave as one, in the slot at which the group was begun.

    Nothing comes between them: neither other replies nor deliveries.
    """

    __slots__ = ("_missing", "_parts", "_replies", "_slot")

    def __init__(self, queue: ReplyQueue) -> None:
        self._replies = queue
        self._slot = queue.reserve()
        self._parts: list[ReplySlot] = []
        self._missing = 1  # the seal

    def reserve(self, requests: int = 1) -> ReplySlot:
        """Add a part."""
        part = ReplySlot(requests)
        self._parts.append(part)
        self._missing += 1
        return part

    def complete(self, slot: ReplySlot, ready: Ready) -> None:
        """Make a part ready, once; the group leaves when all are."""
        if slot.ready is not None:
            raise RuntimeError("a part was completed twice")
        slot.ready = ready
        self._leave_if_whole()

    def reply(self, ready: Ready) -> None:
        """Add a part that is ready."""
        self.complete(self.reserve(), ready)

    def seal(self) -> None:
        """Say that no more parts are added."""
        self._leave_if_whole()

    def _leave_if_whole(self) -> None:
        self._missing -= 1
        if not self._missing:
            self._replies.complete(self._slot, self._join)

    def _join(self) -> bytes:
        return b"".join([_bytes(part.ready) for part in self._parts if part.ready is not None])
