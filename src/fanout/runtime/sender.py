"""Moves the bytes of an outbox into a transport: at once when possible, else as room comes."""

import trio

from fanout.core.outbox import Outbox
from fanout.runtime.transport import CONNECTION_ERRORS, Transport


class Sender:
    """The one writer of a transport.

    `flush` is synchronous: it hands over what the transport takes now, which under normal load is
    everything, and costs no task switch. What is left is moved by `pump`, a task of the owner.
    """

    __slots__ = ("_blocked", "_transport", "_wake", "outbox", "stalled_since")

    def __init__(self, transport: Transport, outbox: Outbox) -> None:
        self._transport = transport
        self._wake = trio.Event()
        self._blocked = False
        self.outbox = outbox
        self.stalled_since: float | None = None
        """When the peer last stopped taking bytes (trio's clock); None while it takes them."""

    def flush(self) -> None:
        """Hand over what the transport takes now; a broken transport is left to its reader."""
        if self._blocked:
            return
        outbox = self.outbox
        try:
            while outbox:
                offered = outbox.head()
                taken = self._transport.send_nowait(offered)
                outbox.advance(taken)
                if taken < len(offered):
                    self._blocked = True
                    self.stalled_since = trio.current_time()
                    self._wake.set()
                    return
        except CONNECTION_ERRORS:
            # The task that reads this transport sees the same error and ends the connection.
            self._blocked = True

    async def pump(self) -> None:
        """Move what `flush` could not; runs until cancelled. Raises nothing of the network."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            try:
                while self.outbox:
                    await self._transport.wait_sendable()
                    taken = self._transport.send_nowait(self.outbox.head())
                    if taken:
                        self.outbox.advance(taken)
                        self.stalled_since = trio.current_time()
            except CONNECTION_ERRORS:
                return
            self._blocked = False
            self.stalled_since = None

    async def drain(self) -> None:
        """Wait until everything is handed over; the caller bounds the time.

        Raises as `Transport.send_nowait`. Only for the end of a connection, in place of `pump`.
        """
        while self.outbox:
            self.outbox.advance(self._transport.send_nowait(self.outbox.head()))
            if self.outbox:
                await self._transport.wait_sendable()
