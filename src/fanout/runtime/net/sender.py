"""Sends an outbox over a transport: at once if possible, else as the peer reads."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

from fanout.core.outbox import Outbox
from fanout.runtime.net.transport import CONNECTION_ERRORS, Transport


def _nothing() -> None:
    """Ignore a stalled peer."""


class Sender:
    """The one writer of a transport.

    `flush` is synchronous: it sends the bytes that the transport accepts now, which under normal
    load is everything, without a task switch. Only for a slow peer a task sends the rest.
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
        """Send while the block runs.

        `nursery` runs the task that sends the bytes not accepted at once.
        """
        self._nursery = nursery
        self.flush()
        try:
            yield
        finally:
            # A later flush must not start a task: the nursery is about to close.
            self._nursery = None

    def flush(self) -> None:
        """Send the bytes that the transport accepts now; ignore a broken transport."""
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
        """Send the rest after `flush`; call `on_stalled` when the peer reads nothing in time."""
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
        """Wait until everything was sent; the caller sets a timeout.

        Only for the end of a connection, after the task of this sender has ended. Raises as
        `Transport.send_nowait`.
        """
        while self.outbox or self._transport.unsent:
            if self.outbox:
                self.outbox.advance(self._transport.send_nowait(self.outbox.head()))
            if self.outbox or self._transport.unsent:
                await self._transport.wait_sendable()
