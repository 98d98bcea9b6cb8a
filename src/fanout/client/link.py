"""One connection of a client to a sidecar: requests with their answers, and what comes unasked.

The stream is opened here, not by trio-websocket, which leaves it open when the other side closes.
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
"""Largest frame taken from a sidecar: its largest payload, written in the longest way."""

SAID_CHARACTERS_MAX = 200
"""How much is repeated of why a connection was refused."""

CONNECT_SECONDS = 10.0
CLOSE_SECONDS = 1.0
IDLE_SECONDS = 25.0
PONG_SECONDS = 8.0
"""A sidecar silent for the one is pinged, and given up when it stays silent for the other."""


@attrs.frozen
class Target:
    """Where a sidecar is and how to get in."""

    url: SplitResult
    token: str = attrs.field(repr=False)
    ssl_context: ssl.SSLContext | None

    async def open(self) -> Stream:
        """Open a stream to it. Raises OSError, trio.BrokenResourceError."""
        if self.url.scheme != "wss":
            return await open_stream(self.url, None)
        return await open_stream(self.url, self.ssl_context or ssl.create_default_context())

    async def greet(self, nursery: trio.Nursery, stream: Stream) -> WebSocketConnection:
        """Make a websocket of a stream; whatever fails then ends the nursery."""
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
    """What a request waits for."""

    come: trio.Event = attrs.field(factory=trio.Event)
    frame: dict[str, Any] | None = None  # none when the connection was lost instead


class Link:
    """One connection: it runs once."""

    def __init__(self, take: Callable[[Event], None]) -> None:
        self.alive = True
        """Whether requests may still be answered."""
        self._take = take
        self._send, self._requests = trio.open_memory_channel[str | bytes](0)
        self._limits = bridge_client.Limits(names=1)
        self._numbers = itertools.count()
        self._waiting: dict[int, _Answer] = {}

    async def run(self, target: Target, greeted: Callable[["Link"], Awaitable[None]]) -> str:
        """Serve requests until the connection ends; return why it did.

        `greeted` runs beside it as soon as requests are taken.
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
        """Send a request and return its answer. Raises RequestFailed, LinkLost."""
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
        """Publish and return how many received it. Raises as `ask`.

        What is too large is refused here: the sidecar may hang up in the midst of it.
        """
        most = self._limits.payload_bytes
        if len(data) > most:
            raise RequestFailed(
                "message_too_large",
                f"message of {len(data)} bytes is over the sidecar's limit of {most} bytes",
            )
        request = partial(bridge_client.publish_request, channel=channel, data=data)
        return int((await self.ask(request))["receivers"])

    async def ask_names(self, op: str, field: str, names: tuple[str, ...]) -> tuple[str, ...]:
        """Ask for channels or patterns; return the nodes that are not heard. Raises as `ask`."""
        degraded: set[str] = set()
        for start in range(0, len(names), self._limits.names):
            batch = names[start : start + self._limits.names]
            request = partial(bridge_client.names_request, op=op, field=field, names=batch)
            degraded.update((await self.ask(request)).get("degraded", ()))
        return tuple(sorted(degraded))

    async def _read(self, socket: WebSocketConnection) -> None:
        """Take what comes, until an exception says why nothing more does."""
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
        """Send requests one after the other: a send that is cancelled breaks the connection."""
        # However it ends, the task that reads sees it too and says why.
        with contextlib.suppress(ConnectionClosed, trio.ClosedResourceError):
            try:
                async for request in self._requests:
                    await socket.send_message(request)
            finally:
                self._end()

    def _end(self) -> None:
        """Take no more requests and tell those that wait."""
        self.alive = False
        self._requests.close()
        for answer in self._waiting.values():
            answer.come.set()


@asynccontextmanager
async def _open_helpers() -> AsyncIterator[trio.Nursery]:
    """Open a nursery that is cancelled when the block is over, and not with it.

    Whoever says goodbye in the block needs the task that reads the answer.
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
        # Not by `start`: cancelled meanwhile it would wait for the shielded task.
        nursery.start_soon(hold)
        try:
            await opened.wait()
            yield found[0]
        finally:
            scope.cancel()


def _why(errors: Sequence[BaseException]) -> str:
    """Return in words what ended a connection first."""
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
            return "the sidecar is silent"
        case OSError() | trio.BrokenResourceError() as error:
            return f"no connection: {root_of(error)}"
        case error:
            return f"no sidecar of a known version: {error!r}"
