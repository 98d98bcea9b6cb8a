"""The live feed of a sidecar's admin door, read by a small HTTP client: see docs/ops/live-page.md."""

import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import attrs
import h11
import trio

from fanout.client.stream import open_stream
from fanout.config import TlsFiles, TopConfig
from fanout.errors import FeedLost, root_of
from fanout.runtime.net.certificates import context_for
from fanout.runtime.process.text import escape
from fanout.terminal.table import shorten

RECEIVE_BYTES_MAX = 65_536

EVENT_BYTES_MAX = 8 * 1024 * 1024
"""The largest event: a look at a fleet of some thousand nodes."""

SAID_CHARACTERS_MAX = 200
"""How much is repeated of why the sidecar refused."""

RETRY_SECONDS = 1.0
"""Between two attempts to get the feed back."""

NO_HTTP = "what answers there does not speak HTTP"

OK, NOT_FOUND = 200, 404

Look = dict[str, Any]
"""One look at a sidecar, as `fanout.core.live.Live` names its values; a newer one may have more."""

Snapshots = AsyncGenerator[Look | FeedLost]


@attrs.define
class EventLines:
    """Splits a stream of server-sent events."""

    _rest: bytes = b""

    def feed(self, data: bytes) -> Iterator[tuple[str, str]]:
        """Take bytes and yield kind and data of each event that is whole.

        Raises:
            FeedLost: an event is too large.

        """
        *blocks, self._rest = (self._rest + data).split(b"\n\n")
        if len(self._rest) > EVENT_BYTES_MAX:
            raise FeedLost(f"an event has over {EVENT_BYTES_MAX} bytes")
        for block in blocks:
            fields = dict(line.split(": ", 1) for line in _lines(block) if ": " in line)
            if "event" in fields:
                yield fields["event"], fields.get("data", "")


def _lines(block: bytes) -> list[str]:
    return block.decode(errors="replace").split("\n")


class Feed:
    """The looks of a sidecar.

    Raises:
        ConfigError: a file of certificates cannot be read.

    """

    def __init__(self, config: TopConfig) -> None:
        self._url = urlsplit(config.admin_url)
        self._timeout_seconds = config.timeout_seconds
        self._context = context_for(config.admin_url, TlsFiles.of(config))

    async def follow(self) -> Snapshots:
        """Yield looks through all connections, and why there is none whenever one is lost.

        Raises:
            FeedLost: there is none at the start.

        """
        begun = False
        while True:
            try:
                async with aclosing(self.looks()) as looks:
                    async for look in looks:
                        begun = True
                        yield look
            except FeedLost as lost:
                if not begun:
                    where = urlunsplit(self._url)
                    raise FeedLost(
                        f"no live feed at {where}: {lost}; is it that of --admin-url?"
                    ) from None
                yield lost
            await trio.sleep(RETRY_SECONDS)

    async def looks(self) -> AsyncGenerator[Look]:
        """Yield a look a second while one connection lasts.

        Raises:
            FeedLost: it did not come about, or ended; the message says why.

        """
        lines = EventLines()
        stream = await self._connect()
        async with stream, aclosing(self._body(stream)) as body:
            async for data in body:
                for kind, text in lines.feed(data):
                    if kind == "snapshot":
                        yield _look(text)
                    elif kind == "closing":
                        raise FeedLost("the sidecar leaves")
        raise FeedLost("the sidecar ended the feed")

    async def _connect(self) -> trio.abc.Stream:
        try:
            with trio.fail_after(self._timeout_seconds):
                return await open_stream(self._url, self._context)
        except trio.TooSlowError:
            raise FeedLost(f"no connection within {self._timeout_seconds:g} seconds") from None
        except (OSError, trio.BrokenResourceError) as error:
            raise FeedLost(root_of(error)) from None

    async def _body(self, stream: trio.abc.Stream) -> AsyncGenerator[bytes]:
        """Ask for the events and yield what comes."""
        http = h11.Connection(h11.CLIENT)
        path = f"{self._url.path.rstrip('/')}/events"
        host = self._url.netloc
        request = h11.Request(
            method="GET", target=path, headers=[("Host", host), ("Accept", "text/event-stream")]
        )
        try:
            await self._send(stream, http.send(request) + http.send(h11.EndOfMessage()))
            response = await self._next(stream, http)
            if not isinstance(response, h11.Response):
                raise FeedLost(NO_HTTP)
            if response.status_code != OK:
                raise FeedLost(await self._refusal(stream, http, response.status_code))
            while isinstance(event := await self._next(stream, http), h11.Data):
                yield bytes(event.data)
        except h11.RemoteProtocolError:
            raise FeedLost(NO_HTTP) from None

    async def _refusal(self, stream: trio.abc.Stream, http: h11.Connection, status: int) -> str:
        """Return in words why there is no feed."""
        if status == NOT_FOUND:
            return "it has no live feed; is it the admin door of a sidecar, and not an older one?"
        body = b""
        while isinstance(event := await self._next(stream, http), h11.Data):
            body = (body + event.data)[:EVENT_BYTES_MAX]
        try:
            why = str(json.loads(body)["error"])
        except (ValueError, LookupError, TypeError):
            why = body.decode(errors="replace").strip()
        return f"refused with status {status}: {shorten(escape(why), SAID_CHARACTERS_MAX)}"

    async def _send(self, stream: trio.abc.Stream, data: bytes | None) -> None:
        try:
            with trio.fail_after(self._timeout_seconds):
                await stream.send_all(data or b"")
        except trio.TooSlowError:
            raise FeedLost(f"silent for {self._timeout_seconds:g} seconds") from None
        except trio.BrokenResourceError as error:
            raise FeedLost(root_of(error)) from None

    async def _next(self, stream: trio.abc.Stream, http: h11.Connection) -> Any:
        """Return what comes next; looks come every second, so silence is an end too."""
        while (event := http.next_event()) is h11.NEED_DATA:
            try:
                with trio.fail_after(self._timeout_seconds):
                    http.receive_data(bytes(await stream.receive_some(RECEIVE_BYTES_MAX)))
            except trio.TooSlowError:
                raise FeedLost(f"silent for {self._timeout_seconds:g} seconds") from None
            except trio.BrokenResourceError as error:
                raise FeedLost(root_of(error)) from None
        return event


def _look(text: str) -> Look:
    try:
        look = json.loads(text)
    except ValueError:
        look = None
    if not isinstance(look, dict):
        raise FeedLost("the feed is not that of a sidecar")
    return look
