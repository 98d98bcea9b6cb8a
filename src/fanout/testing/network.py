"""A network in memory: streams with backpressure and delay, and the faults of a real one.

Nothing here reads a clock but trio's, and nothing is random but what `delay_seconds` returns, so
under an autojump clock hours pass in no time and a run can be repeated.
"""

import errno
from collections import deque
from collections.abc import Callable

import attrs
import trio

from fanout.values import Endpoint

FIRST_PORT = 20_000
"""Port 0 is answered with the ports from here on."""


@attrs.define(eq=False)
class _Pipe:
    """Bytes on their way in one direction."""

    bytes_max: int
    chunks: deque[tuple[float, bytes]] = attrs.field(factory=deque)  # (arrival, bytes)
    size: int = 0
    last_arrival: float = 0.0
    ended: bool = False  # nothing more will be sent
    reset: bool = False
    held: bool = False  # bytes are taken, up to `bytes_max`, but do not arrive
    alarm: trio.CancelScope | None = None  # of the one who waits for bytes
    writers: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)

    def wake(self) -> None:
        """Have everybody who waits look again."""
        if self.alarm is not None:
            self.alarm.cancel()
        self.writers.unpark_all()

    def append(self, arrival: float, data: bytes) -> None:
        """Send bytes on their way; who waits for them sleeps until they arrive."""
        # Bytes never overtake each other, whatever the delays.
        self.last_arrival = max(arrival, self.last_arrival)
        if self.alarm is not None and not self.chunks and not self.held:
            self.alarm.deadline = self.last_arrival
        self.chunks.append((self.last_arrival, data))
        self.size += len(data)

    def due(self, now: float) -> bool:
        """Return whether bytes have arrived."""
        return not self.held and bool(self.chunks) and self.chunks[0][0] <= now

    def next_arrival(self) -> float:
        """Return when the next bytes arrive; infinity when none are on their way."""
        return self.chunks[0][0] if self.chunks and not self.held else float("inf")


class MemoryTransport:
    """A `Transport` over two pipes."""

    def __init__(
        self, incoming: _Pipe, outgoing: _Pipe, peer: str, network: "MemoryNetwork"
    ) -> None:
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


class MemoryListener:
    """A `Listener` of a `MemoryNetwork`."""

    def __init__(self, network: "MemoryNetwork", endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.listening = False
        self._network = network
        self._closed = False
        self._send, self._receive = trio.open_memory_channel[MemoryTransport](1000)

    def listen(self) -> None:
        """Begin to take connections."""
        self.listening = True

    async def accept(self) -> MemoryTransport:
        """Wait for the next connection."""
        return await self._receive.receive()

    def offer(self, transport: MemoryTransport) -> None:
        """Queue a new connection; refused when too many wait. Raises OSError."""
        try:
            self._send.send_nowait(transport)
        except trio.WouldBlock:
            raise _refused() from None

    def close(self) -> None:
        """Stop listening; connections already taken go on."""
        if not self._closed:
            self._closed = True
            self._receive.close()
            self._network.unbind(self.endpoint)


class MemoryNetwork:
    """Where endpoints are names: whoever binds one first has it.

    Args:
        delay_seconds: called for everything that is sent; how long it is on its way.
        buffer_bytes_max: how much one direction of a connection holds before its sender waits.
        receive_bytes_max: the most one receive returns; 1 cuts every message everywhere.

    """

    def __init__(
        self,
        *,
        delay_seconds: Callable[[], float] = lambda: 0.0,
        buffer_bytes_max: int = 65_536,
        receive_bytes_max: int = 65_536,
    ) -> None:
        self.delay_seconds = delay_seconds
        self.receive_bytes_max = receive_bytes_max
        self._buffer_bytes_max = buffer_bytes_max
        self._listeners: dict[Endpoint, MemoryListener] = {}
        self._pipes: dict[Endpoint, list[_Pipe]] = {}
        self._frozen: dict[Endpoint, trio.Event] = {}
        self._next_port = FIRST_PORT

    async def connect(self, endpoint: Endpoint) -> MemoryTransport:
        """Connect; hangs while the endpoint is frozen. Raises ConnectionRefusedError."""
        await trio.sleep(self.delay_seconds())
        while (frozen := self._frozen.get(endpoint)) is not None:
            await frozen.wait()
        listener = self._listeners.get(endpoint)
        if listener is None or not listener.listening:
            raise _refused()
        there, back = _Pipe(self._buffer_bytes_max), _Pipe(self._buffer_bytes_max)
        listener.offer(MemoryTransport(there, back, f"client of {endpoint}", self))
        pipes = self._pipes.setdefault(endpoint, [])
        pipes[:] = [pipe for pipe in pipes if not (pipe.ended or pipe.reset)]
        pipes.extend((there, back))
        return MemoryTransport(back, there, str(endpoint), self)

    async def bind(self, endpoint: Endpoint) -> MemoryListener:
        """Take an endpoint. Raises OSError when somebody has it."""
        await trio.lowlevel.checkpoint()
        if not endpoint.path and not endpoint.port:
            endpoint = attrs.evolve(endpoint, port=self._next_port)
            self._next_port += 1
        if endpoint in self._listeners:
            raise OSError(errno.EADDRINUSE, "address already in use")
        listener = self._listeners[endpoint] = MemoryListener(self, endpoint)
        return listener

    def unbind(self, endpoint: Endpoint) -> None:
        """Give an endpoint free."""
        self._listeners.pop(endpoint, None)

    # Faults.

    def freeze(self, endpoint: Endpoint) -> None:
        """Let nothing through to or from what listens there: no bytes, no connection, no error.

        This is what a stopped process, a hung host or a partition looks like from outside.
        """
        self._frozen.setdefault(endpoint, trio.Event())
        for pipe in self._pipes.get(endpoint, ()):
            pipe.held = True

    def thaw(self, endpoint: Endpoint) -> None:
        """Let everything through again, first what was held."""
        event = self._frozen.pop(endpoint, None)
        if event is not None:
            event.set()
        for pipe in self._pipes.get(endpoint, ()):
            pipe.held = False
            pipe.wake()

    def reset(self, endpoint: Endpoint) -> None:
        """Break every connection to what listens there; what was on its way is lost."""
        for pipe in self._pipes.pop(endpoint, ()):
            pipe.reset = True
            pipe.chunks.clear()
            pipe.size = 0
            pipe.wake()


def _refused() -> OSError:
    return ConnectionRefusedError(errno.ECONNREFUSED, "connection refused")
