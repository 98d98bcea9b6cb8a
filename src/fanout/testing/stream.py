"""A byte stream in memory, with backpressure, delay, and an end that may be harsh."""

from collections import deque
from collections.abc import Callable
from typing import Protocol

import attrs
import trio


class Delays(Protocol):
    """What a stream asks its network."""

    delay_seconds: Callable[[], float]
    receive_bytes_max: int


@attrs.define(eq=False)
class Pipe:
    """Bytes on their way in one direction."""

    bytes_max: int
    chunks: deque[tuple[float, bytes]] = attrs.field(factory=deque)  # (arrival, bytes)
    size: int = 0
    last_arrival: float = 0.0
    ended: bool = False  # nothing more will be sent
    reset: bool = False
    held: bool = False  # bytes are taken, up to `bytes_max`, but do not arrive
    bytes_left: int | None = None  # so many get through and then `spent` is called; None: all
    spent: Callable[[], None] = lambda: None
    alarm: trio.CancelScope | None = None  # of the one who waits for bytes
    writers: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)

    def wake(self) -> None:
        """Wake all waiting tasks."""
        if self.alarm is not None:
            self.alarm.cancel()
        self.writers.unpark_all()

    def append(self, arrival: float, data: bytes) -> None:
        """Send bytes on their way; who waits for them sleeps until they arrive."""
        if self.bytes_left is not None:
            data = data[: self.bytes_left]
            self.bytes_left -= len(data)
        # Bytes never overtake each other, whatever the delays.
        self.last_arrival = max(arrival, self.last_arrival)
        if self.alarm is not None and not self.chunks and not self.held:
            self.alarm.deadline = self.last_arrival
        if data:
            self.chunks.append((self.last_arrival, data))
            self.size += len(data)
        if self.bytes_left == 0:
            self.spent()

    def due(self, now: float) -> bool:
        """Return whether bytes have arrived."""
        return not self.held and bool(self.chunks) and self.chunks[0][0] <= now

    def next_arrival(self) -> float:
        """Return when the next bytes arrive; infinity when none are on their way."""
        return self.chunks[0][0] if self.chunks and not self.held else float("inf")


class MemoryTransport:
    """A `Transport` over two pipes."""

    unsent = False  # what a pipe takes is on its way

    def __init__(self, incoming: Pipe, outgoing: Pipe, peer: str, network: Delays) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._network = network
        self._closed = False
        self.peer = peer

    def send_nowait(self, data: bytes | memoryview) -> int:
        """Take what the pipe has room for."""
        pipe = self._outgoing
        self._check_sendable()
        taken = bytes(data[: pipe.bytes_max - pipe.size])
        if taken:
            pipe.append(trio.current_time() + self._network.delay_seconds(), taken)
        return len(taken)

    async def wait_sendable(self) -> None:
        """Wait for room in the pipe."""
        await trio.lowlevel.checkpoint()
        while self._outgoing.size >= self._outgoing.bytes_max:
            self._check_sendable()
            await self._outgoing.writers.park()
        self._check_sendable()

    async def receive_some(self, bytes_max: int) -> bytes:
        """Wait for bytes; what arrived together is received together."""
        pipe = self._incoming
        waited = False
        while True:
            if self._closed:
                raise trio.ClosedResourceError("closed on this side")
            if pipe.reset:
                raise trio.BrokenResourceError("connection reset by peer")
            now = trio.current_time()
            if pipe.due(now):
                if not waited:
                    await trio.lowlevel.checkpoint()
                return self._take(now, min(bytes_max, self._network.receive_bytes_max))
            if pipe.ended and not pipe.chunks and not pipe.held:
                return b""
            with trio.CancelScope(deadline=pipe.next_arrival()) as pipe.alarm:
                await trio.sleep_forever()
            pipe.alarm = None
            waited = True

    def close(self) -> None:
        """End both directions; bytes already sent still arrive."""
        if self._closed:
            return
        self._closed = True
        self._outgoing.ended = True
        self._incoming.ended = True
        self._incoming.chunks.clear()
        self._incoming.size = 0
        self._incoming.wake()
        self._outgoing.wake()

    def _take(self, now: float, bytes_max: int) -> bytes:
        pipe = self._incoming
        taken = bytearray()
        while len(taken) < bytes_max and pipe.due(now):
            arrival, chunk = pipe.chunks.popleft()
            room = bytes_max - len(taken)
            taken += chunk[:room]
            if chunk[room:]:
                pipe.chunks.appendleft((arrival, chunk[room:]))
        pipe.size -= len(taken)
        pipe.writers.unpark_all()
        return bytes(taken)

    def _check_sendable(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("closed on this side")
        if self._outgoing.ended or self._outgoing.reset:
            raise trio.BrokenResourceError("the peer is gone")
