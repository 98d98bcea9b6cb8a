"""The live feed of a sidecar's admin door: /live is one look as JSON, /events all that follow.

All readers share one look a second, encoded once, and none is taken while nobody reads. A reader
that is slow gets the latest look when it is done with the one before, and what happened meanwhile
as far as it is remembered: nothing is queued for it. One that takes nothing at all is ended by TCP,
see `fanout.runtime.net.http`.
"""

import json
from collections.abc import Sequence
from typing import Any

import attrs
import trio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from fanout.core.live import problems
from fanout.runtime.admin.live_look import Looks
from fanout.runtime.sidecar.adjuncts import Adjunct, Sidecar
from fanout.runtime.sidecar.hub import Hub
from fanout.runtime.sidecar.member_log import Happening

INTERVAL_SECONDS = 1.0
"""Between two looks."""

LINGER_SECONDS = 10.0
"""How long looks go on when nobody reads them any more: who asks /live now and then gets rates."""

READERS_MAX = 16
"""Readers of /events at a time; each costs a task and a connection."""

RETRY_MILLISECONDS = 1000
"""How long a browser waits before it connects again."""

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # for a proxy that would otherwise wait for more
]


class LiveFeed(Adjunct):
    """Takes looks while somebody reads them."""

    name = "live"

    def __init__(self, hub: Hub, looks: Looks) -> None:
        self._looks = looks
        self._member_log = hub.member_log
        # Numbers of events are unique within one life of the sidecar.
        self._life = f"{hub.rng.getrandbits(64):016x}"
        self._readers = 0
        self._wanted = trio.Event()
        self._wanted_until = 0.0
        self._latest = b""  # the last look, while looks are taken
        self._number = 0  # of the last look
        self._changed = trio.Event()
        self._leaving = False

    def routes(self, sidecar: Sidecar) -> Sequence[BaseRoute]:  # noqa: ARG002 - the same for each
        """Return /live and /events."""
        events = _Application(self._events)
        return Route("/live", self._live), Route("/events", events, methods=["GET"])

    async def run(self, sidecar: Sidecar) -> None:  # noqa: ARG002 - it has its own hub
        """Take looks until cancelled."""
        while True:
            await self._wanted.wait()
            self._looks.begin()
            try:
                while self._readers or trio.current_time() < self._wanted_until:
                    self._take()
                    await trio.sleep(INTERVAL_SECONDS)
            finally:
                self._looks.end()
                self._latest = b""
            self._wanted = trio.Event()

    async def drain(self, sidecar: Sidecar) -> None:  # noqa: ARG002 - as above
        """Tell the readers that the sidecar leaves, and let them go."""
        self._leaving = True
        self._wake()

    def _take(self) -> None:
        look = self._looks.take()
        body = {"problems": [attrs.asdict(each) for each in problems(look)], **attrs.asdict(look)}
        self._latest = json.dumps(body, separators=(",", ":")).encode()
        self._number = look.number
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _want(self) -> None:
        self._wanted_until = trio.current_time() + LINGER_SECONDS
        self._wanted.set()

    async def _live(self, _request: Request) -> Response:
        self._want()
        while not self._latest:
            await self._changed.wait()
        return Response(
            self._latest, media_type="application/json", headers={"cache-control": "no-store"}
        )

    async def _events(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._readers >= READERS_MAX:
            why = f"{READERS_MAX} readers are here already; close one of them"
            await JSONResponse({"error": why}, status_code=503)(scope, receive, send)
            return
        seen = self._seen(Request(scope).headers.get("last-event-id", ""))
        self._readers += 1
        self._want()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_until_gone, receive, nursery.cancel_scope)
                await self._feed(send, seen)
                nursery.cancel_scope.cancel()
        finally:
            self._readers -= 1

    async def _feed(self, send: Send, seen: int) -> None:
        """Send all that there is to say until the sidecar leaves."""
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        text = f"retry: {RETRY_MILLISECONDS}\n\n".encode()
        number = 0
        while True:
            for happening in self._member_log.since(seen):
                text += self._membership(happening)
                seen = happening.number
            if self._latest and number != self._number:
                number = self._number
                text += b"event: snapshot\ndata: " + self._latest + b"\n\n"
            if self._leaving:
                text += b'event: closing\ndata: {"reason":"shutdown"}\n\n'
            # Taken before the wait to send: what happens meanwhile is noticed behind it.
            changed, kept, leaving = self._changed, self._member_log.kept, self._leaving
            if text:
                body = {"type": "http.response.body", "body": text, "more_body": not leaving}
                await send(body)
            if leaving:
                return
            text = b""
            await _either(changed, kept)

    def _membership(self, happening: Happening) -> bytes:
        body: dict[str, Any] = {
            "number": happening.number,
            "at": round(self._looks.wall_seconds(happening.at), 3),
            "level": happening.level,
            "event": happening.event,
            **happening.facts,
        }
        data = json.dumps(body, separators=(",", ":"))
        return f"id: {self._life}-{happening.number}\nevent: membership\ndata: {data}\n\n".encode()

    def _seen(self, last: str) -> int:
        """Return the number of the last event that a reader has got, in this life of the sidecar."""
        life, _, number = last.rpartition("-")
        return int(number) if life == self._life and number.isdecimal() else 0


class _Application:
    """An ASGI application that starlette does not mistake for a function of a request."""

    def __init__(self, application: Any) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._application(scope, receive, send)


async def _until_gone(receive: Receive, scope: trio.CancelScope) -> None:
    """End a reader's scope when it has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def _either(one: trio.Event, other: trio.Event) -> None:
    """Wait for the first of two events."""
    async with trio.open_nursery() as nursery:

        async def end(event: trio.Event) -> None:
            await event.wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(end, one)
        await end(other)
