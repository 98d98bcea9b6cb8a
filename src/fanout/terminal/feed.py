"""The client of a sidecar's live feed, by httpx and httpx-sse: see docs/ops/live-page.md."""

import contextlib
import json
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import httpx
import trio
from httpx_sse import EventSource, ServerSentEvent

from fanout.config import TlsFiles, TopConfig
from fanout.errors import FeedLost, root_of
from fanout.runtime.net.certificates import context_for
from fanout.runtime.process.text import escape
from fanout.terminal.table import shorten

EVENT_BYTES_MAX = 8 * 1024 * 1024
"""The largest event: a snapshot of a fleet of some thousand nodes."""

REASON_COLUMNS_MAX = 200
"""How much of the body of an error response is shown."""

RETRY_SECONDS = 1.0
"""Between two attempts to reconnect."""

NOT_HTTP = "not an HTTP server"
NOT_A_FEED = "not the live feed of a sidecar"

EVENT_STREAM = "text/event-stream"

Snapshot = dict[str, Any]
"""One snapshot, with the fields of `fanout.core.live.Live`; a newer sidecar may send more."""

Snapshots = AsyncGenerator[Snapshot | FeedLost]


async def read_events(body: AsyncIterator[bytes]) -> AsyncGenerator[ServerSentEvent]:
    """Yield the server-sent events of a response body.

    Raises:
        FeedLost: an event is too large.

    """
    # Not the received response itself: its encoding and compression are the server's choice.
    bounded = httpx.Response(
        httpx.codes.OK, headers={"Content-Type": EVENT_STREAM}, content=_bounded(body)
    )
    events = EventSource(bounded).aiter_sse()
    try:
        async for event in events:
            if event.data:  # else a comment, or the time to wait before a reconnect
                yield event
    finally:
        await _unwind(events)


async def _bounded(body: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """Yield the chunks of a body while no event is too large: httpx-sse has no limit."""
    size = 0
    last = b""
    try:
        async for chunk in body:
            *ended, rest = (last + chunk).rsplit(b"\n\n", 1)
            size = len(rest) if ended else size + len(chunk)
            if size > EVENT_BYTES_MAX:
                raise FeedLost(f"event exceeds {EVENT_BYTES_MAX} bytes")
            last = chunk[-1:]
            yield chunk
    finally:
        await _unwind(body)


async def _unwind(iterator: AsyncIterator[object]) -> None:
    """End an iteration that was left early.

    httpx reads a body through async generators that do not close each other. A cancelled read
    ends the innermost, and with it all others; else they would be left to the garbage collector.
    """
    with contextlib.suppress(FeedLost, httpx.TransportError), trio.CancelScope() as scope:
        scope.cancel()
        async for _ in iterator:
            pass


class Feed:
    """The live feed of one sidecar.

    Raises:
        ConfigError: a file of certificates cannot be read.

    """

    def __init__(self, config: TopConfig) -> None:
        self._url = config.admin_url
        self._timeout_seconds = config.timeout_seconds
        context = context_for(config.admin_url, TlsFiles.of(config))
        # Without one httpx would read every CA certificate of the system, also for http://.
        self._context = context or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    async def follow(self) -> Snapshots:
        """Yield snapshots, reconnecting for ever; also yield why, each time a connection ends.

        Raises:
            FeedLost: the first connection failed.

        """
        begun = False
        while True:
            try:
                async with aclosing(self.snapshots()) as snapshots:
                    async for snapshot in snapshots:
                        begun = True
                        yield snapshot
            except FeedLost as lost:
                if not begun:
                    raise FeedLost(
                        f"no live feed at {self._url}: {lost}; check --admin-url"
                    ) from None
                yield lost
            await trio.sleep(RETRY_SECONDS)

    async def snapshots(self) -> AsyncGenerator[Snapshot]:
        """Yield a snapshot a second while one connection lasts.

        Raises:
            FeedLost: connecting failed, or the connection ended; the message says why.

        """
        begun = False
        try:
            async with self._client() as client, client.stream("GET", self._events) as response:
                await self._check(response)
                begun = True
                async with aclosing(read_events(response.aiter_raw())) as events:
                    async for event in events:
                        if event.event == "snapshot":
                            yield _snapshot(event.data)
                        elif event.event == "closing":
                            raise FeedLost("the sidecar is shutting down")
        except httpx.ConnectTimeout:
            raise FeedLost(f"no connection within {self._timeout_seconds:g} seconds") from None
        except httpx.TimeoutException:  # a snapshot comes every second
            raise FeedLost(f"silent for {self._timeout_seconds:g} seconds") from None
        except httpx.RemoteProtocolError:
            raise FeedLost("connection lost" if begun else NOT_HTTP) from None
        except (httpx.TransportError, httpx.InvalidURL, UnicodeError) as error:
            raise FeedLost(_reason(error)) from None
        raise FeedLost("the sidecar ended the feed")

    @property
    def _events(self) -> str:
        return f"{self._url.rstrip('/')}/events"

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            headers={"Accept": EVENT_STREAM, "Accept-Encoding": "identity"},
            timeout=self._timeout_seconds,
            verify=self._context,
            trust_env=False,  # neither proxies nor ~/.netrc
        )

    async def _check(self, response: httpx.Response) -> None:
        """Raise FeedLost unless a response is a stream of events."""
        if response.status_code == httpx.codes.NOT_FOUND:
            raise FeedLost("status 404: not the admin door of a sidecar, or of one that is too old")
        if response.status_code != httpx.codes.OK:
            body = b""
            async for chunk in response.aiter_raw():
                body = (body + chunk)[:EVENT_BYTES_MAX]
            try:
                why = str(json.loads(body)["error"])
            except (ValueError, LookupError, TypeError):
                why = body.decode(errors="replace").strip()
            why = shorten(escape(why), REASON_COLUMNS_MAX)
            raise FeedLost(f"refused with status {response.status_code}: {why}")
        if not response.headers.get("Content-Type", "").startswith(EVENT_STREAM):
            raise FeedLost(NOT_A_FEED)


def _reason(error: Exception) -> str:
    """Return what the system, or TLS, said of an error of httpx.

    httpx raises it from one of httpcore, which hides its own cause but not its context.
    """
    wrapped = error.__cause__ or error
    return root_of(wrapped.__context__ or wrapped)


def _snapshot(text: str) -> Snapshot:
    try:
        snapshot = json.loads(text)
    except ValueError:
        snapshot = None
    if not isinstance(snapshot, dict):
        raise FeedLost(NOT_A_FEED)
    return snapshot
