"""Replies leave in the order of their requests, however late each is known.

A client may send many requests without waiting; one answered by a remote node is ready later
than the one after it. Each request takes a turn; a reply that is ready waits for the turns before
it. A reply may be a function: it is called at the very moment its bytes go out, which is where a
subscription begins or ends for the client.
"""

from collections import deque
from collections.abc import Callable

Ready = bytes | Callable[[], bytes]


class Turn:
    """The place of one reply."""

    __slots__ = ("ready",)

    def __init__(self) -> None:
        self.ready: Ready | None = None


class Turns:
    """The replies one client waits for."""

    __slots__ = ("_emit", "_waiting")

    def __init__(self, emit: Callable[[bytes], None]) -> None:
        self._emit = emit
        self._waiting: deque[Turn] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def reserve(self) -> Turn:
        """Take the next turn."""
        turn = Turn()
        self._waiting.append(turn)
        return turn

    def complete(self, turn: Turn, ready: Ready) -> None:
        """Make a reply ready, once; emit it and those behind it that are ready."""
        if turn.ready is not None:
            raise RuntimeError("a turn was completed twice")
        turn.ready = ready
        waiting = self._waiting
        while waiting and (ready_now := waiting[0].ready) is not None:
            waiting.popleft()
            self._emit(ready_now if isinstance(ready_now, bytes) else ready_now())

    def reply(self, ready: Ready) -> None:
        """Answer a request at once, in its turn."""
        if self._waiting:
            self.complete(self.reserve(), ready)
        else:
            self._emit(ready if isinstance(ready, bytes) else ready())
