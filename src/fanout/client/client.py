"""The client: a connection to a sidecar that reconnects by itself."""

import random
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Self
from urllib.parse import urlsplit

import trio

from fanout.client.link import Link, Target
from fanout.core.backoff import Backoff
from fanout.errors import LinkLost, RequestFailed
from fanout.notice import Notice
from fanout.wire.ws.bridge_client import Event, Gap


class Client:
    """A client that reconnects by itself. Made by `open_client`; iterated by one task."""

    def __init__(
        self,
        target: Target,
        events_max: int,
        rng: random.Random,
        told: Callable[[str], None] = lambda _why: None,
    ) -> None:
        self.trouble = "not connected yet"
        """Why there is no connection; empty while there is one."""
        self._target = target
        self._events_max = events_max
        self._rng = rng
        self._told = told
        self._backoff = Backoff()
        self._wanted: dict[str, dict[str, None]] = {"channels": {}, "patterns": {}}
        self._events: deque[Event] = deque()
        self._came = Notice()
        self._link: Link | None = None
        self._linked = Notice()

    async def subscribe(self, *channels: str) -> tuple[str, ...]:
        """Subscribe to channels; return the nodes that the sidecar does not hear, usually none.

        Waits for a connection. The subscription lasts and is restored after each reconnect.

        Raises:
            RequestFailed: the sidecar refused.

        """
        return await self._subscribe("subscribe", "channels", channels)

    async def psubscribe(self, *patterns: str) -> tuple[str, ...]:
        """Subscribe to patterns, as `subscribe` does to channels."""
        return await self._subscribe("psubscribe", "patterns", patterns)

    async def publish(self, channel: str, data: bytes | str) -> int:
        """Publish and return the number of receivers. Waits for a connection.

        Raises:
            RequestFailed: not published or, with code `outcome_unknown`, possibly published.

        """
        payload = data.encode() if isinstance(data, str) else data
        while True:
            try:
                return await (await self._connected()).publish(channel, payload)
            except LinkLost as lost:
                if lost.written:
                    raise RequestFailed("outcome_unknown", lost.reason) from None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        await trio.lowlevel.checkpoint()
        while not self._events:
            await self._came.wait(self._came.count)
        return self._events.popleft()

    async def run(self) -> None:
        """Connect and reconnect until cancelled."""
        attempt = 0
        while True:
            began = trio.current_time()
            self.trouble = await Link(self._put).run(self._target, self._resume)
            self._told(self.trouble)
            if trio.current_time() - began > self._backoff.max_seconds:
                attempt = 0
            await trio.sleep(self._backoff.delay_seconds(attempt, self._rng))
            attempt += 1

    async def _resume(self, link: Link) -> None:
        """Restore the subscriptions on a new connection, then use it for requests."""
        try:
            for op, field in (("subscribe", "channels"), ("psubscribe", "patterns")):
                await link.ask_names(op, field, tuple(self._wanted[field]))
        except LinkLost:
            return
        if any(self._wanted.values()):  # so there was a connection before
            self._put(Gap("", "reconnected"))
        self.trouble = ""
        self._link = link
        self._linked.set()

    def _put(self, event: Event) -> None:
        """Queue an event; when the queue is full, queue one gap for all further events."""
        events = self._events
        if len(events) < self._events_max:
            events.append(event)
        elif events[-1] != (overflow := Gap("", "overflow")):
            events.append(overflow)
        self._came.set()

    async def _connected(self) -> Link:
        while (link := self._link) is None or not link.alive:
            await self._linked.wait(self._linked.count)
        return link

    async def _subscribe(self, op: str, field: str, names: tuple[str, ...]) -> tuple[str, ...]:
        while True:
            link = await self._connected()
            try:
                degraded = await link.ask_names(op, field, names)
            except LinkLost:
                continue
            self._wanted[field].update(dict.fromkeys(names))
            return degraded


@asynccontextmanager
async def open_client(
    url: str,
    *,
    token: str = "",
    ssl_context: ssl.SSLContext | None = None,
    events_max: int = 10_000,
    told: Callable[[str], None] = lambda _why: None,
) -> AsyncIterator[Client]:
    """Open a client of the sidecar at `url`, without waiting for the first connection.

    Args:
        url: the sidecar's websocket door, ws:// or wss://.
        token: the token to log in with, if the sidecar has users.
        ssl_context: the TLS context for wss://. Default: the CA bundle of the system.
        events_max: size of the queue of messages; when it is full, messages are dropped and a
            `Gap` is queued.
        told: called with the reason when a connection is lost or an attempt fails; an exception
            that it raises ends the client.

    """
    target = Target(urlsplit(url), token, ssl_context)
    client = Client(target, events_max, random.Random(), told)  # noqa: S311 - spreads retries
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run)
        yield client
        nursery.cancel_scope.cancel()
