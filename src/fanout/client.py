"""A client of the sidecar's websocket door, for services that run on trio.

    async with open_client("ws://127.0.0.1:7380/") as client:
        await client.subscribe("news")
        await client.publish("news", b"hello")
        async for event in client:
            print(event)

It connects in the background, again and again, and subscribes anew each time. Whatever may have
been missed meanwhile is said by a `Gap` among the messages.
"""

import contextlib
import itertools
import random
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Self
from urllib.parse import urlsplit

import attrs
import trio
from trio_websocket import ConnectionClosed, HandshakeError, WebSocketConnection, wrap_client_stream

from fanout.core.backoff import Backoff
from fanout.errors import LinkLost, RemoteProtocolError, RequestFailed
from fanout.wire import bridge_client
from fanout.wire.bridge import SUBPROTOCOL
from fanout.wire.bridge_client import Event, Gap, Message

__all__ = ["Client", "Event", "Gap", "Message", "open_client"]

MESSAGE_BYTES_MAX = 64 * 1024 * 1024
"""Largest frame taken from a sidecar: its largest payload, written in the longest way."""

CONNECT_SECONDS = 10.0
CLOSE_SECONDS = 1.0
IDLE_SECONDS = 25.0
PONG_SECONDS = 8.0
"""A sidecar silent for the one is pinged, and given up when it stays silent for the other."""


@attrs.define(eq=False)
class _Answer:
    """What a request waits for."""

    come: trio.Event = attrs.field(factory=trio.Event)
    frame: dict[str, Any] | None = None  # none when the connection was lost instead


@attrs.define(eq=False)
class _Link:
    """One connection, greeted by the sidecar."""

    requests: trio.MemorySendChannel[str | bytes]
    names_max: int
    waiting: dict[int, _Answer] = attrs.field(factory=dict)


class Client:
    """A connection to a sidecar that mends itself. Made by `open_client`; iterated by one task."""

    def __init__(
        self,
        url: str,
        token: str,
        ssl_context: ssl.SSLContext | None,
        events_max: int,
        rng: random.Random,
    ) -> None:
        self.trouble = "not connected yet"
        """Why there is no connection now; empty while there is one."""
        self._url = urlsplit(url)
        self._ssl_context = ssl_context
        self._headers = [(b"Authorization", b"Bearer " + token.encode())] if token else []
        self._events_max = events_max
        self._rng = rng
        self._backoff = Backoff()
        self._wanted: dict[str, dict[str, None]] = {"channels": {}, "patterns": {}}
        self._events: deque[Event] = deque()
        self._came = trio.Event()
        self._link: _Link | None = None
        self._linked = trio.Event()
        self._numbers = itertools.count()

    async def subscribe(self, *channels: str) -> tuple[str, ...]:
        """Deliver these channels; return the nodes that are not heard now: mostly none.

        Waits for a connection. Once this returned, the wish stays through all connections.

        Raises:
            RequestFailed: the sidecar refused.

        """
        return await self._subscribe("subscribe", "channels", channels)

    async def psubscribe(self, *patterns: str) -> tuple[str, ...]:
        """Deliver the channels that match, as `subscribe` does."""
        return await self._subscribe("psubscribe", "patterns", patterns)

    async def publish(self, channel: str, data: bytes | str) -> int:
        """Publish and return how many received it. Waits for a connection.

        Raises:
            RequestFailed: it was not published or, with code `outcome_unknown`, nobody knows.

        """
        payload = data.encode() if isinstance(data, str) else data
        request = partial(bridge_client.publish_request, channel=channel, data=payload)
        while True:
            try:
                answer = await self._ask(await self._connected(), request)
            except LinkLost as lost:
                if lost.written:
                    raise RequestFailed("outcome_unknown", lost.reason) from None
            else:
                return int(answer["receivers"])

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        await trio.lowlevel.checkpoint()
        while not self._events:
            self._came = trio.Event()
            await self._came.wait()
        return self._events.popleft()

    async def run(self) -> None:
        """Keep a connection until cancelled."""
        attempt = 0
        while True:
            began = trio.current_time()
            try:
                with trio.fail_after(CONNECT_SECONDS):
                    stream = await self._open()
                async with stream:
                    self.trouble = await self._use(stream)
            except (OSError, trio.TooSlowError, trio.BrokenResourceError) as error:
                self.trouble = f"no connection: {error!r}"
            if trio.current_time() - began > self._backoff.max_seconds:
                attempt = 0
            await trio.sleep(self._backoff.delay_seconds(attempt, self._rng))
            attempt += 1

    async def _open(self) -> trio.SocketStream | trio.SSLStream[trio.SocketStream]:
        host, port = self._url.hostname or "", self._url.port
        if self._url.scheme == "wss":
            context = self._ssl_context or ssl.create_default_context()
            return await trio.open_ssl_over_tcp_stream(
                host, port or 443, ssl_context=context, https_compatible=True
            )
        return await trio.open_tcp_stream(host, port or 80)

    async def _use(self, stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]) -> str:
        """Serve requests on a connection until it ends; return why it did."""
        path = f"{self._url.path or '/'}{'?' if self._url.query else ''}{self._url.query}"
        async with trio.open_nursery() as nursery:
            why = "the sidecar is silent"
            try:
                with trio.fail_after(CONNECT_SECONDS):
                    socket = await wrap_client_stream(
                        nursery,
                        stream,
                        self._url.netloc.rpartition("@")[2],
                        path,
                        subprotocols=[SUBPROTOCOL],
                        extra_headers=self._headers,
                        max_message_size=MESSAGE_BYTES_MAX,
                    )
                    hello = bridge_client.decode(await socket.get_message())
                await self._serve(nursery, socket, bridge_client.names_max(hello))
            except trio.TooSlowError:
                pass
            except ConnectionClosed as closed:
                why = f"closed: {closed.reason}"
            except (HandshakeError, RemoteProtocolError, LookupError, ValueError) as error:
                why = f"no sidecar of a known version: {error!r}"
            nursery.cancel_scope.cancel()
        return why

    async def _serve(
        self, nursery: trio.Nursery, socket: WebSocketConnection, names_max: int
    ) -> None:
        """Take what comes, until an exception says why nothing more does."""
        send, receive = trio.open_memory_channel[str | bytes](0)
        link = _Link(send, names_max)
        try:
            with send, receive:
                nursery.start_soon(_write, socket, receive)
                nursery.start_soon(self._resume, link)
                await self._read(socket, link)
        finally:
            self._link = None
            for answer in link.waiting.values():
                answer.come.set()
            with trio.move_on_after(CLOSE_SECONDS, shield=True):
                await socket.aclose()

    async def _read(self, socket: WebSocketConnection, link: _Link) -> None:
        while True:
            with trio.move_on_after(IDLE_SECONDS) as idle:
                frame = bridge_client.decode(await socket.get_message())
                answer = link.waiting.get(frame["id"]) if "id" in frame else None
                if answer is not None:
                    answer.frame = frame
                    answer.come.set()
                elif (event := bridge_client.event(frame)) is not None:
                    self._put(event)
            if idle.cancelled_caught:
                with trio.fail_after(PONG_SECONDS):
                    await socket.ping()

    async def _resume(self, link: _Link) -> None:
        """Ask for what is wanted; only then is the connection said to be there."""
        try:
            for op, field in (("subscribe", "channels"), ("psubscribe", "patterns")):
                await self._ask_names(link, op, field, tuple(self._wanted[field]))
        except LinkLost:
            return
        if any(self._wanted.values()):  # then there was a connection before
            self._put(Gap("", "reconnected"))
        self.trouble = ""
        self._link = link
        self._linked.set()

    def _put(self, event: Event) -> None:
        """Queue an event; past the limit queue one gap in place of all that follow."""
        events = self._events
        if len(events) < self._events_max:
            events.append(event)
        elif events[-1] != (overflow := Gap("", "overflow")):
            events.append(overflow)
        self._came.set()

    async def _connected(self) -> _Link:
        while self._link is None:
            self._linked = trio.Event()
            await self._linked.wait()
        return self._link

    async def _subscribe(self, op: str, field: str, names: tuple[str, ...]) -> tuple[str, ...]:
        while True:
            try:
                degraded = await self._ask_names(await self._connected(), op, field, names)
            except LinkLost:
                continue
            self._wanted[field].update(dict.fromkeys(names))
            return degraded

    async def _ask_names(
        self, link: _Link, op: str, field: str, names: tuple[str, ...]
    ) -> tuple[str, ...]:
        degraded: set[str] = set()
        for start in range(0, len(names), link.names_max):
            batch = names[start : start + link.names_max]
            request = partial(bridge_client.names_request, op=op, field=field, names=batch)
            degraded.update((await self._ask(link, request)).get("degraded", ()))
        return tuple(sorted(degraded))

    async def _ask(self, link: _Link, request: Callable[[int], str | bytes]) -> dict[str, Any]:
        """Send a request and return its answer. Raises RequestFailed, LinkLost."""
        number = next(self._numbers) % bridge_client.ID_LIMIT
        answer = link.waiting[number] = _Answer()
        try:
            await link.requests.send(request(number))
            await answer.come.wait()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise LinkLost("the connection to the sidecar was lost") from None
        finally:
            del link.waiting[number]
        if answer.frame is None:
            raise LinkLost("the connection to the sidecar was lost", written=True)
        if answer.frame.get("type") == "error":
            raise RequestFailed(answer.frame["code"], answer.frame["message"])
        return answer.frame


async def _write(
    socket: WebSocketConnection, requests: trio.MemoryReceiveChannel[str | bytes]
) -> None:
    """Send requests one after the other: a send that is cancelled breaks the connection."""
    # However it ends, the task that reads sees it too and says why.
    with contextlib.suppress(ConnectionClosed, trio.ClosedResourceError), requests:
        async for request in requests:
            await socket.send_message(request)


@asynccontextmanager
async def open_client(
    url: str,
    *,
    token: str = "",
    ssl_context: ssl.SSLContext | None = None,
    events_max: int = 10_000,
) -> AsyncIterator[Client]:
    """Open a client of the sidecar at `url`; it does not wait for the first connection.

    `token` logs in where the sidecar has users. `ssl_context` is for wss:// where the system's
    certificates are not the right ones. `events_max` messages wait at most for whoever
    iterates.
    """
    client = Client(url, token, ssl_context, events_max, random.Random())  # noqa: S311 - spreads retries
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run)
        yield client
        nursery.cancel_scope.cancel()
