"""One connection of a client to a sidecar: requests with their replies, and events.

This module opens the stream itself: trio-websocket leaves it open when the peer closes.
"""

import contextlib
import itertools
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import SplitResult

import attrs
import trio
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    HandshakeError,
    WebSocketConnection,
    wrap_client_stream,
)

from fanout.client.stream import Stream, open_stream
from fanout.errors import LinkLost, RemoteProtocolError, RequestFailed, root_of
from fanout.wire.ws import bridge_client
from fanout.wire.ws.bridge import SUBPROTOCOL
from fanout.wire.ws.bridge_client import Event

MESSAGE_BYTES_MAX = 64 * 1024 * 1024
"""Largest frame accepted from a sidecar: its largest payload in the longest encoding."""

SAID_CHARACTERS_MAX = 200
"""Characters of the sidecar's reason for refusing a connection that are shown."""

CONNECT_SECONDS = 10.0
CLOSE_SECONDS = 1.0
IDLE_SECONDS = 25.0
PONG_SECONDS = 8.0
"""After IDLE_SECONDS of silence a ping is sent; without a pong in PONG_SECONDS the link is lost."""


@attrs.frozen
class Target:
    """URL and credentials of a sidecar."""

    url: SplitResult
    token: str = attrs.field(repr=False)
    ssl_context: ssl.SSLContext | None

    async def open(self) -> Stream:
        """Open a stream to the sidecar. Raises OSError, trio.BrokenResourceError."""
        if self.url.scheme != "wss":
            return await open_stream(self.url, None)
        return await open_stream(self.url, self.ssl_context or ssl.create_default_context())

    async def greet(self, nursery: trio.Nursery, stream: Stream) -> WebSocketConnection:
        """Perform the websocket handshake on a stream; a later failure cancels the nursery."""
        headers = [(b"Authorization", b"Bearer " + self.token.encode())] if self.token else []
        return await wrap_client_stream(
            nursery,
            stream,
            self.url.netloc.rpartition("@")[2],
            f"{self.url.path or '/'}{'?' if self.url.query else ''}{self.url.query}",
            subprotocols=[SUBPROTOCOL],
            extra_headers=headers,
            max_message_size=MESSAGE_BYTES_MAX,
        )


@attrs.define(eq=False)
class _Answer:
    """The reply that a request waits for."""

    come: trio.Event = attrs.field(factory=trio.Event)
    frame: dict[str, Any] | None = None  # None if the connection was lost


class Link:
    """One connection; `run` is called once."""

    def __init__(self, take: Callable[[Event], None]) -> None:
        self.alive = True
        """Whether requests can be sent."""
        self._take = take
        self._send, self._requests = trio.open_memory_channel[str | bytes](0)
        self._limits = bridge_client.Limits(names=1)
        self._numbers = itertools.count()
        self._waiting: dict[int, _Answer] = {}

    async def run(self, target: Target, greeted: Callable[["Link"], Awaitable[None]]) -> str:
        """Serve requests until the connection ends; return the reason.

        `greeted` is started as a task when requests can be sent.
        """
        why = ""
        try:
            with trio.fail_after(CONNECT_SECONDS):
                stream = await target.open()
            async with stream, _open_helpers() as helpers, trio.open_nursery() as nursery:
                with trio.fail_after(CONNECT_SECONDS):
                    socket = await target.greet(helpers, stream)
                    hello = bridge_client.decode(await socket.get_message())
                self._limits = bridge_client.limits(hello)
                nursery.start_soon(self._write, socket)
                nursery.start_soon(greeted, self)
                await self._read(socket)
        except* (
            *(ConnectionClosed, HandshakeError, RemoteProtocolError, LookupError, ValueError),
            *(OSError, trio.TooSlowError, trio.BrokenResourceError),
        ) as group:
            why = _why(group.exceptions)
        finally:
            self._end()
        return why

    async def ask(self, request: Callable[[int], str | bytes]) -> dict[str, Any]:
        """Send a request and return its reply. Raises RequestFailed, LinkLost."""
        number = next(self._numbers) % bridge_client.ID_LIMIT
        answer = self._waiting[number] = _Answer()
        try:
            await self._send.send(request(number))
            await answer.come.wait()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise LinkLost("the connection to the sidecar was lost") from None
        finally:
            del self._waiting[number]
        if answer.frame is None:
            raise LinkLost("the connection to the sidecar was lost", written=True)
        if answer.frame.get("type") == "error":
            raise RequestFailed(answer.frame["code"], answer.frame["message"])
        return answer.frame

    async def publish(self, channel: str, data: bytes) -> int:
        """Publish and return the number of receivers. Raises as `ask`.

        An oversized message fails here: the sidecar may close the connection in the middle of it.
        """
        most = self._limits.payload_bytes
        if len(data) > most:
            raise RequestFailed(
                "message_too_large",
                f"message of {len(data)} bytes exceeds the sidecar's limit of {most} bytes",
            )
        request = partial(bridge_client.publish_request, channel=channel, data=data)
        return int((await self.ask(request))["receivers"])

    async def ask_names(self, op: str, field: str, names: tuple[str, ...]) -> tuple[str, ...]:
        """Subscribe to channels or patterns; return the unheard nodes. Raises as `ask`."""
        degraded: set[str] = set()
        for start in range(0, len(names), self._limits.names):
            batch = names[start : start + self._limits.names]
            request = partial(bridge_client.names_request, op=op, field=field, names=batch)
            degraded.update((await self.ask(request)).get("degraded", ()))
        return tuple(sorted(degraded))

    async def _read(self, socket: WebSocketConnection) -> None:
        """Receive frames until an exception ends the connection."""
        try:
            while True:
                with trio.move_on_after(IDLE_SECONDS) as idle:
                    frame = bridge_client.decode(await socket.get_message())
                    answer = self._waiting.get(frame["id"]) if "id" in frame else None
                    if answer is not None:
                        answer.frame = frame
                        answer.come.set()
                    elif (event := bridge_client.event(frame)) is not None:
                        self._take(event)
                if idle.cancelled_caught:
                    with trio.fail_after(PONG_SECONDS):
                        await socket.ping()
        finally:
            self._end()
            with trio.move_on_after(CLOSE_SECONDS, shield=True):
                await socket.aclose()

    async def _write(self, socket: WebSocketConnection) -> None:
        """Send the requests one by one in this task: cancelling a send breaks the connection."""
        # The reading task fails too and reports the reason.
        with contextlib.suppress(ConnectionClosed, trio.ClosedResourceError):
            try:
                async for request in self._requests:
                    await socket.send_message(request)
            finally:
                self._end()

    def _end(self) -> None:
        """Refuse further requests and wake those that wait for a reply."""
        self.alive = False
        self._requests.close()
        for answer in self._waiting.values():
            answer.come.set()


@asynccontextmanager
async def _open_helpers() -> AsyncIterator[trio.Nursery]:
    """Open a nursery that is cancelled after the block, even if the block is cancelled.

    The close handshake at the end of the block needs the task that reads the peer's reply.
    """
    scope = trio.CancelScope(shield=True)
    opened = trio.Event()
    found: list[trio.Nursery] = []

    async def hold() -> None:
        with scope:
            async with trio.open_nursery() as helpers:
                found.append(helpers)
                opened.set()
                await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        # Not `nursery.start`: when cancelled it would wait for the shielded task.
        nursery.start_soon(hold)
        try:
            await opened.wait()
            yield found[0]
        finally:
            scope.cancel()


def _why(errors: Sequence[BaseException]) -> str:
    """Return a description of the first error of a connection."""
    match errors[0]:
        case BaseExceptionGroup() as group:
            return _why(group.exceptions)
        case ConnectionClosed() as closed:
            return f"closed: {closed.reason}"
        case ConnectionRejected() as rejected:
            body = (rejected.body or b"").decode(errors="replace").strip()
            said = f": {body[:SAID_CHARACTERS_MAX]}" if body else ""
            return f"refused with status {rejected.status_code}{said}"
        case trio.TooSlowError():
            return "timeout: no reply from the sidecar"
        case OSError() | trio.BrokenResourceError() as error:
            return f"no connection: {root_of(error)}"
        case error:
            return f"not a sidecar of a supported version: {error!r}"
