"""The live feed of the admin door: /live is one snapshot as JSON, /events a stream of them.

All readers share one snapshot a second, encoded once; without readers none is captured. A slow
reader gets the latest snapshot after it has read the previous one, and the events since then that
are still kept: nothing is queued for a reader. TCP ends the connection of a reader that reads
nothing, see `fanout.runtime.net.http`.
"""

import json
import random
from collections.abc import Sequence
from typing import Any

import attrs
import trio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from fanout.core.live import problems
from fanout.notice import Notice
from fanout.runtime.admin.live_snapshot import Snapshots
from fanout.runtime.sidecar.adjuncts import Adjunct, Sidecar
from fanout.runtime.sidecar.member_log import FleetEvent, MemberLog

INTERVAL_SECONDS = 1.0
"""The time between two snapshots."""

LINGER_SECONDS = 10.0
"""How long snapshots go on after the last reader, so that repeated requests to /live get rates."""

READERS_MAX = 16
"""The most readers of /events; each costs a task and a connection."""

RETRY_MILLISECONDS = 1000
"""How long a browser waits before it reconnects."""

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # no buffering in nginx
]


class LiveFeed(Adjunct):
    """Captures snapshots while the feed has readers."""

    name = "live"

    def __init__(self, snapshots: Snapshots, member_log: MemberLog, rng: random.Random) -> None:
        self._snapshots = snapshots
        self._member_log = member_log
        # Numbers of events are unique within one run of the sidecar.
        self._run = f"{rng.getrandbits(64):016x}"
        self._readers = 0
        self._wanted = Notice()
        self._wanted_until = 0.0
        self._latest = b""  # the last snapshot, while they are captured
        self._number = 0  # of the last snapshot
        self._news = member_log.noted  # set after a snapshot as well
        self._leaving = False

    def routes(self, sidecar: Sidecar) -> Sequence[BaseRoute]:  # noqa: ARG002 - the same for each
        """Return the routes /live and /events."""
        events = _Application(self._events)
        return Route("/live", self._live), Route("/events", events, methods=["GET"])

    async def run(self, sidecar: Sidecar) -> None:  # noqa: ARG002 - the same for each
        """Capture snapshots while they are wanted, until cancelled."""
        while True:
            while not self._is_wanted():
                await self._wanted.wait(self._wanted.count)
            self._snapshots.begin()
            try:
                while self._is_wanted():
                    self._capture()
                    await trio.sleep(INTERVAL_SECONDS)
            finally:
                self._snapshots.end()
                self._latest = b""

    async def drain(self, sidecar: Sidecar) -> None:  # noqa: ARG002 - as above
        """End the streams of all readers with a closing event."""
        self._leaving = True
        self._news.set()

    def _is_wanted(self) -> bool:
        return bool(self._readers) or trio.current_time() < self._wanted_until

    def _capture(self) -> None:
        live = self._snapshots.capture()
        body = {"problems": [attrs.asdict(each) for each in problems(live)], **attrs.asdict(live)}
        self._latest = json.dumps(body, separators=(",", ":")).encode()
        self._number = live.number
        self._news.set()

    def _want(self) -> None:
        self._wanted_until = trio.current_time() + LINGER_SECONDS
        self._wanted.set()

    async def _live(self, _request: Request) -> Response:
        self._want()
        while not self._latest:
            await self._news.wait(self._news.count)
        return Response(
            self._latest, media_type="application/json", headers={"cache-control": "no-store"}
        )

    async def _events(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._readers >= READERS_MAX:
            why = f"too many readers: the limit is {READERS_MAX}; close one of them"
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
        """Send events and snapshots until the sidecar shuts down."""
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        text = f"retry: {RETRY_MILLISECONDS}\n\n".encode()
        number = 0
        while True:
            for fleet_event in self._member_log.since(seen):
                text += self._membership(fleet_event)
                seen = fleet_event.number
            if self._latest and number != self._number:
                number = self._number
                text += b"event: snapshot\ndata: " + self._latest + b"\n\n"
            if self._leaving:
                text += b'event: closing\ndata: {"reason":"shutdown"}\n\n'
            # Read before the wait to send, so that later changes are noticed after it.
            news, leaving = self._news.count, self._leaving
            if text:
                body = {"type": "http.response.body", "body": text, "more_body": not leaving}
                await send(body)
            if leaving:
                return
            text = b""
            await self._news.wait(news)

    def _membership(self, fleet_event: FleetEvent) -> bytes:
        body: dict[str, Any] = {
            "number": fleet_event.number,
            "at": round(self._snapshots.wall_seconds(fleet_event.at), 3),
            "level": fleet_event.level,
            "event": fleet_event.event,
            **fleet_event.facts,
        }
        data = json.dumps(body, separators=(",", ":"))
        return f"id: {self._run}-{fleet_event.number}\nevent: membership\ndata: {data}\n\n".encode()

    def _seen(self, last: str) -> int:
        """Return the number of the last event of this run that a reader received."""
        run, _, number = last.rpartition("-")
        return int(number) if run == self._run and number.isdecimal() else 0


class _Application:
    """An ASGI application; starlette would take a plain function for a request handler."""

    def __init__(self, application: Any) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._application(scope, receive, send)


async def _until_gone(receive: Receive, scope: trio.CancelScope) -> None:
    """Cancel a reader's scope when it closes the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
