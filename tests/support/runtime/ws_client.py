"""A websocket client over a transport in memory; every frame is checked against the schema."""

from collections import deque
from typing import Any

import trio

from fanout.runtime.net.transport import Network, Transport
from fanout.values.names import Endpoint
from tests.support.bridge_schema import received, sent
from tests.support.wire.rfc6455 import (
    BINARY,
    CLOSE,
    HANDSHAKE,
    PING,
    TEXT,
    close,
    frame,
    sent_frames,
)


class WsConnection:
    """Sends requests and gathers what comes."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.hello: Any = None
        self.frames: deque[Any] = deque()
        """Text frames received and not taken yet."""
        self.closed: int | None = None
        """The code of the server's Close frame."""
        self.pongs = True
        """Whether pings are answered."""
        self._data = b""

    def send(self, data: bytes) -> None:
        """Send raw bytes; the pipe must have room."""
        assert self.transport.send_nowait(data) == len(data)

    def ask_soon(self, **request: Any) -> None:
        """Send a request without waiting for its answer."""
        self.send(frame(TEXT, sent(request).encode()))

    async def ask(self, **request: Any) -> Any:
        """Send a request and return the next frame, which must be its answer."""
        self.ask_soon(**request)
        return await self.next()

    async def publish(self, channel: bytes, payload: bytes, number: int = 0) -> Any:
        """Publish by a binary frame and return the next frame, which must be the answer."""
        head = b"\x02" + number.to_bytes(4) + len(channel).to_bytes(2)
        self.send(frame(BINARY, head + channel + payload))
        return await self.next()

    async def next(self, seconds: float = 60.0) -> Any:
        """Wait for the next text frame."""
        with trio.fail_after(seconds):
            while not self.frames:
                assert await self._receive(), f"the connection ended; close code {self.closed}"
            return self.frames.popleft()

    async def end(self, *, answer: bool = True) -> int | None:
        """Read to the end of the connection, answer a Close frame, and return its code."""
        while await self._receive():
            if self.closed is not None and answer:
                answer = False
                self.send(close(self.closed))
        return self.closed

    async def silence(self, seconds: float) -> None:
        """Read for so long; nothing may come."""
        with trio.move_on_after(seconds):
            while await self._receive():
                assert not self.frames, self.frames

    async def handshake(self) -> None:
        """Open the websocket and take the hello."""
        self.send(HANDSHAKE)
        while b"\r\n\r\n" not in self._data:
            data = await self.transport.receive_some(65_536)
            assert data, "the connection ended before the handshake"
            self._data += data
        head, _, self._data = self._data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        self._take()
        self.hello = await self.next()

    async def _receive(self) -> bool:
        data = await self.transport.receive_some(65_536)
        self._data += data
        self._take()
        return bool(data)

    def _take(self) -> None:
        """Take the whole frames that have come."""
        while (length := _frame_bytes(self._data)) <= len(self._data):
            ((opcode, payload),) = sent_frames(self._data[:length])
            self._data = self._data[length:]
            assert self.closed is None, "nothing may follow a Close frame"
            if opcode == TEXT:
                self.frames.append(received(payload))
            elif opcode == CLOSE:
                self.closed = int.from_bytes(payload[:2])
            elif opcode == PING and self.pongs:
                self.send(frame(10, payload))


def _frame_bytes(data: bytes) -> int:
    """Return how long the first frame is; more than there is when its header is not whole."""
    if len(data) < 2 or len(data) < (head := {126: 4, 127: 10}.get(data[1], 2)):
        return len(data) + 1
    return head + (int.from_bytes(data[2:head]) if head > 2 else data[1])


async def open_websocket(network: Network, sidecar: str) -> WsConnection:
    """Connect to a sidecar."""
    client = WsConnection(await network.connect(Endpoint(sidecar, 7380)))
    await client.handshake()
    return client
