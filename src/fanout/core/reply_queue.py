"""The reply queue: sends the replies to a client in the order of its requests.

A client may pipeline requests; a reply that depends on a remote node may be ready later than the
reply to the next request. Each request reserves a slot; a reply that is ready waits for the slots
before it. A reply may be a function: it is called when its bytes are sent, which is the point
where a subscription begins or ends for the client.
"""

from collections import deque
from collections.abc import Callable
from typing import Protocol

from fanout.values.requests import Ready


class ReplySlot:
    """The place of one reply in the queue."""

    __slots__ = ("ready", "requests")

    def __init__(self, requests: int = 1) -> None:
        self.ready: Ready | None = None
        self.requests = requests  # answered by this reply


def _bytes(ready: Ready) -> bytes:
    return ready if isinstance(ready, bytes) else ready()


class ReplySink(Protocol):
    """A queue that takes replies: a `ReplyQueue` or a `ReplyGroup`."""

    def reserve(self, requests: int = 1) -> ReplySlot:
        """Return the next slot, for one reply to `requests` consecutive requests."""

    def complete(self, slot: ReplySlot, ready: Ready) -> None:
        """Set the reply of a slot, once."""

    def reply(self, ready: Ready) -> None:
        """Queue the reply to a request in the next slot."""


class ReplyQueue:
    """The replies that one client waits for. Its length is the number of unanswered requests."""

    __slots__ = ("_emit", "_requests", "_waiting")

    def __init__(self, emit: Callable[[bytes], None]) -> None:
        self._emit = emit
        self._waiting: deque[ReplySlot] = deque()
        self._requests = 0

    def __len__(self) -> int:
        return self._requests

    def reserve(self, requests: int = 1) -> ReplySlot:
        """Return the next slot, for one reply to `requests` consecutive requests."""
        slot = ReplySlot(requests)
        self._waiting.append(slot)
        self._requests += requests
        return slot

    def complete(self, slot: ReplySlot, ready: Ready) -> None:
        """Set the reply of a slot, once; emit all replies whose turn has come."""
        if slot.ready is not None:
            raise RuntimeError("a slot was completed twice")
        slot.ready = ready
        waiting = self._waiting
        while waiting and (ready_now := waiting[0].ready) is not None:
            self._requests -= waiting.popleft().requests
            self._emit(_bytes(ready_now))

    def reply(self, ready: Ready) -> None:
        """Queue the reply to a request in the next slot."""
        if self._waiting:
            self.complete(self.reserve(), ready)
        else:
            self._emit(_bytes(ready))


class ReplyGroup:
    """Several replies that are sent as one, in the slot at which the group began.

    No other reply or delivery comes between them.
    """

    __slots__ = ("_missing", "_parts", "_replies", "_slot")

    def __init__(self, queue: ReplyQueue) -> None:
        self._replies = queue
        self._slot = queue.reserve()
        self._parts: list[ReplySlot] = []
        self._missing = 1  # the seal

    def reserve(self, requests: int = 1) -> ReplySlot:
        """Reserve the slot of the next part."""
        part = ReplySlot(requests)
        self._parts.append(part)
        self._missing += 1
        return part

    def complete(self, slot: ReplySlot, ready: Ready) -> None:
        """Set the reply of a part, once; the group is sent when all parts are complete."""
        if slot.ready is not None:
            raise RuntimeError("a part was completed twice")
        slot.ready = ready
        self._complete_part()

    def reply(self, ready: Ready) -> None:
        """Add a part with its reply."""
        self.complete(self.reserve(), ready)

    def seal(self) -> None:
        """End the group: no more parts may be added."""
        self._complete_part()

    def _complete_part(self) -> None:
        self._missing -= 1
        if not self._missing:
            self._replies.complete(self._slot, self._join)

    def _join(self) -> bytes:
        return b"".join([_bytes(part.ready) for part in self._parts if part.ready is not None])
