"""A network in memory: streams with backpressure and delay, and the faults of a real one.

Only trio's clock is read, and only `delay_seconds` is random, so hours pass at once under an autojump
clock, and a run can be repeated.
"""

import errno
from collections.abc import Callable

import attrs
import trio

from fanout.testing.stream import MemoryTransport, Pipe
from fanout.values.names import Endpoint

FIRST_PORT = 20_000
"""The first port that is chosen for port 0."""


@attrs.frozen(eq=False)
class _Wire:
    """One connection."""

    origin: str
    endpoint: Endpoint
    there: Pipe
    back: Pipe

    @property
    def over(self) -> bool:
        """Return whether the connection has ended."""
        ended = self.there.ended and self.back.ended
        return self.there.reset or (ended and not (self.there.held or self.back.held))

    def end(self) -> None:
        """Close it; bytes in flight still arrive."""
        for pipe in (self.there, self.back):
            pipe.ended = True
            pipe.wake()

    def reset(self) -> None:
        """Break it; bytes in flight are lost."""
        for pipe in (self.there, self.back):
            pipe.reset = True
            pipe.chunks.clear()
            pipe.size = 0
            pipe.wake()


@attrs.frozen(eq=False)
class _Cut:
    """Two hosts that cannot reach each other."""

    one_way: bool
    over: trio.Event = attrs.field(factory=trio.Event)


class MemoryListener:
    """A `Listener` of a `MemoryNetwork`."""

    def __init__(self, network: "MemoryNetwork", endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.listening = False
        self._network = network
        self._closed = False
        self._send, self._receive = trio.open_memory_channel[MemoryTransport](1000)

    def listen(self) -> None:
        """Begin to accept connections."""
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
        """Stop listening; accepted connections go on."""
        if not self._closed:
            self._closed = True
            self._receive.close()
            self._network.unbind(self.endpoint)


class MemoryNetwork:
    """A network whose endpoints are names.

    Args:
        delay_seconds: called for each send; returns how long the bytes take to arrive.
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
        self.on_connect: Callable[[str, Endpoint], None] = lambda _origin, _endpoint: None
        """Called with origin and destination of each attempt to connect."""
        self._buffer_bytes_max = buffer_bytes_max
        self._listeners: dict[Endpoint, MemoryListener] = {}
        self._wires: list[_Wire] = []
        self._sweep_at = 0  # number of wires at which ended ones are dropped
        self._cuts: dict[tuple[str, str], _Cut] = {}
        self._frozen: dict[Endpoint, trio.Event] = {}
        self._next_port = FIRST_PORT

    def host(self, name: str) -> "MemoryHost":
        """Return the network as one host of it sees it: its links can be cut one by one."""
        return MemoryHost(self, name)

    async def connect(
        self, endpoint: Endpoint, *, tls: bool = False, origin: str = ""
    ) -> MemoryTransport:
        """Connect without TLS; hangs while the network drops everything. Raises ConnectionRefusedError."""
        assert not tls, "no TLS in memory"  # noqa: S101 - a mistake in a test
        self.on_connect(origin, endpoint)
        await trio.sleep(self.delay_seconds())
        while (closed := self._closed_between(origin, endpoint)) is not None:
            await closed.wait()
        listener = self._listeners.get(endpoint)
        if listener is None or not listener.listening:
            raise _refused()
        there, back = Pipe(self._buffer_bytes_max), Pipe(self._buffer_bytes_max)
        listener.offer(MemoryTransport(there, back, f"client of {endpoint}", self))
        if len(self._wires) >= self._sweep_at:
            self._wires = [each for each in self._wires if not each.over]
            self._sweep_at = 2 * len(self._wires) + 16
        self._wires.append(_Wire(origin, endpoint, there, back))
        return MemoryTransport(back, there, str(endpoint), self)

    async def bind(self, endpoint: Endpoint) -> MemoryListener:
        """Bind an endpoint. Raises OSError if it is in use."""
        await trio.lowlevel.checkpoint()
        if not endpoint.path and not endpoint.port:
            endpoint = attrs.evolve(endpoint, port=self._next_port)
            self._next_port += 1
        if endpoint in self._listeners:
            raise OSError(errno.EADDRINUSE, "address already in use")
        listener = self._listeners[endpoint] = MemoryListener(self, endpoint)
        return listener

    def unbind(self, endpoint: Endpoint) -> None:
        """Release an endpoint."""
        self._listeners.pop(endpoint, None)

    # Faults.

    def freeze(self, endpoint: Endpoint) -> None:
        """Drop everything to and from an endpoint: no bytes, no connection, no error.

        From outside, a stopped process or a hung host looks like this.
        """
        self._frozen.setdefault(endpoint, trio.Event())
        self._hold()

    def thaw(self, endpoint: Endpoint) -> None:
        """Pass everything again, first what was held."""
        self._release(self._frozen.pop(endpoint, None))

    def cut(self, origin: str, host: str, *, one_way: bool = False) -> None:
        """Drop everything from one host to another, and back unless `one_way`.

        This affects the connections that `origin` has made or will try to make.
        """
        self._cuts.setdefault((origin, host), _Cut(one_way))
        self._hold()

    def mend(self, origin: str, host: str) -> None:
        """Undo `cut`."""
        found = self._cuts.pop((origin, host), None)
        self._release(found.over if found is not None else None)

    def limit(self, origin: str, host: str, bytes_left: int, *, back: bool) -> None:
        """End each connection from one host to another after so many more bytes.

        Bytes `back` are counted, or else those forth. The cut may be within a message, as with a peer
        that dies while it sends.
        """
        for wire in self._wires:
            if (wire.origin, wire.endpoint.host) == (origin, host) and not wire.over:
                pipe = wire.back if back else wire.there
                pipe.bytes_left, pipe.spent = bytes_left, wire.end

    def reset(self, endpoint: Endpoint) -> None:
        """Break every connection to an endpoint; bytes in flight are lost."""
        for wire in self._wires:
            if wire.endpoint == endpoint:
                wire.reset()

    def _closed_between(self, origin: str, endpoint: Endpoint) -> trio.Event | None:
        """Return the event before which no connection can be made; None if it can be made now."""
        if (frozen := self._frozen.get(endpoint)) is not None:
            return frozen
        cut = self._cuts.get((origin, endpoint.host))
        return cut.over if cut is not None else None

    def _hold(self) -> None:
        for wire in self._wires:
            frozen = wire.endpoint in self._frozen
            cut = self._cuts.get((wire.origin, wire.endpoint.host))
            wire.there.held = frozen or cut is not None
            wire.back.held = frozen or (cut is not None and not cut.one_way)

    def _release(self, over: trio.Event | None) -> None:
        if over is None:
            return
        over.set()
        self._hold()
        for wire in self._wires:
            wire.there.wake()
            wire.back.wake()


@attrs.frozen
class MemoryHost:
    """A `Network` that records which host connects."""

    network: MemoryNetwork
    name: str

    async def connect(self, endpoint: Endpoint, *, tls: bool = False) -> MemoryTransport:
        """Connect from this host. Raises ConnectionRefusedError."""
        return await self.network.connect(endpoint, tls=tls, origin=self.name)

    async def bind(self, endpoint: Endpoint) -> MemoryListener:
        """Bind an endpoint. Raises OSError if it is in use."""
        return await self.network.bind(endpoint)


def _refused() -> OSError:
    return ConnectionRefusedError(errno.ECONNREFUSED, "connection refused")
