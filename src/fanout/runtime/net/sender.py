"""Moves the bytes of an outbox into a transport: at once when possible, else as room comes."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

from fanout.core.outbox import Outbox
from fanout.runtime.net.transport import CONNECTION_ERRORS, Transport


def _nothing() -> None:
    """Do nothing about a peer that stalls."""


class Sender:
    """The one writer of a transport.

    `flush` is synchronous: it hands over what the transport takes now, which under normal load is
    everything, and costs no task switch. Only when the peer is slow a task moves the rest.
    """

    __slots__ = ("_nursery", "_on_stalled", "_pumping", "_stall_seconds", "_transport", "outbox")

    def __init__(
        self,
        transport: Transport,
        outbox: Outbox,
        *,
        stall_seconds: float = math.inf,
        on_stalled: Callable[[], None] = _nothing,
    ) -> None:
        self._transport = transport
        self._nursery: trio.Nursery | None = None
        self._pumping = False
        self._stall_seconds = stall_seconds
        self._on_stalled = on_stalled
        self.outbox = outbox

    @contextmanager
    def sending(self, nursery: trio.Nursery) -> Iterator[None]:
        """Send while the block runs, inside `nursery`.

        The nursery holds the task that moves what the peer did not take at once.
        """
        self._nursery = nursery
        self.flush()
        try:
            yield
        finally:
            # Others may flush once more before the nursery is left, and it takes no more tasks then.
            self._nursery = None

    def flush(self) -> None:
        """Hand over what the transport takes now; a broken transport is left to its reader."""
        if self._pumping or self._nursery is None:
            return
        outbox = self.outbox
        try:
            while outbox:
                offered = outbox.head()
                taken = self._transport.send_nowait(offered)
                outbox.advance(taken)
                if taken < len(offered) or self._transport.unsent:
                    self._pumping = True
                    self._nursery.start_soon(self._pump)
                    return
        except CONNECTION_ERRORS:
            # The task that reads this transport sees the same error and ends the connection.
            self._pumping = True

    async def _pump(self) -> None:
        """Move what `flush` could not. A peer that takes nothing for too long is reported."""
        try:
            while self.outbox or self._transport.unsent:
                with trio.move_on_after(self._stall_seconds) as scope:
                    await self._transport.wait_sendable()
                if scope.cancelled_caught:
                    self._on_stalled()
                    return
                if self.outbox:
                    self.outbox.advance(self._transport.send_nowait(self.outbox.head()))
        except CONNECTION_ERRORS:
            return
        self._pumping = False

    async def drain(self) -> None:
        """Wait until everything is handed over; the caller bounds the time.

        Only for the end of a connection, when no other task of this sender runs any more.
        Raises as `Transport.send_nowait`.
        """
        while self.outbox or self._transport.unsent:
            if self.outbox:
                self.outbox.advance(self._transport.send_nowait(self.outbox.head()))
            if self.outbox or self._transport.unsent:
                await self._transport.wait_sendable()
