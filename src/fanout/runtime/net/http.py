"""The admin HTTP door: is this service alive, and can it do its work."""

import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import attrs
import trio
from hypercorn.config import Config, Sockets
from hypercorn.trio import serve
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from fanout.runtime.process.loop_watch import LoopWatch
from fanout.values.names import Endpoint
from fanout.wire.ws.origins import OriginPolicy

STALL_SECONDS = 5.0
"""How long a reader may take no bytes before its connection is ended."""

SEND_BUFFER_BYTES = 131_072
"""What the kernel holds for one reader, about; snapshots of large fleets fit."""

GRACE_SECONDS = 1.0
"""How long a request may go on once the sidecar leaves."""


@attrs.frozen
class Readiness:
    """Whether a service can do its work now."""

    unready: str  # why not; empty when it can
    facts: Mapping[str, Any]
    """What that rests on, for people: texts, numbers, and lists and tables of them."""


@attrs.frozen(kw_only=True, eq=False)
class AdminDoor:
    """What an admin door serves, and to whom.

    Attributes:
        endpoint: where it listens.
        readiness: returns whether the service can do its work now.
        loop: watches the event loop as long as the door is served.
        routes: beside /healthz and /readyz.
        tls: what it speaks TLS with, if it does.
        hosts: names in the Host header beside its own; a request to another one gets 403.
        origins: pages that may ask; one of another origin gets 403.

    """

    endpoint: Endpoint
    readiness: Callable[[], Readiness]
    loop: LoopWatch
    routes: Sequence[BaseRoute] = ()
    tls: ssl.SSLContext | None = None
    hosts: Sequence[str] = ()
    origins: Sequence[str] = ()


class _Config(Config):
    """Hypercorn's settings, with a context of ours: its certificate can be replaced."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        super().__init__()
        self._tls = tls

    @property
    def ssl_enabled(self) -> bool:
        """Whether to speak TLS."""
        return self._tls is not None

    def create_sockets(self) -> Sockets:
        """Open the listening sockets; what is set on them holds for their connections.

        A reader that takes nothing is ended by TCP: hypercorn would wait for it, and cannot be
        cancelled meanwhile. Until then little is held for it, also in the kernel.
        """
        sockets = super().create_sockets()
        for each in (*sockets.secure_sockets, *sockets.insecure_sockets):
            milliseconds = int(STALL_SECONDS * 1000)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        return sockets

    def create_ssl_context(self) -> ssl.SSLContext | None:
        """Return the context."""
        return self._tls


async def serve_admin(
    door: AdminDoor, *, task_status: trio.TaskStatus[Endpoint] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve an admin door until cancelled; reports the bound address as started.

    Raises:
        OSError: the address cannot be bound; in a group, as from any nursery.

    """
    policy = OriginPolicy(frozenset(), frozenset())

    async def healthz(_request: Request) -> JSONResponse:
        lag = door.loop.last_seconds
        reason = f"the event loop runs; it was {lag:.3f} s late when last looked at"
        return JSONResponse({"status": "alive", "reason": reason, "loop_lag_seconds": lag})

    async def readyz(_request: Request) -> JSONResponse:
        now = door.readiness()
        status = "unready" if now.unready else "ready"
        reason = now.unready or "ready"
        body = {"status": status, "reason": reason, **now.facts}
        return JSONResponse(body, status_code=503 if now.unready else 200)

    app = Starlette(routes=[Route("/healthz", healthz), Route("/readyz", readyz), *door.routes])

    async def known(scope: Scope, receive: Receive, send: Send) -> None:
        handler: ASGIApp = app
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            why = policy.refusal(headers.get("host"), headers.getlist("origin"))
            handler = JSONResponse({"error": why}, status_code=403) if why else app
        await handler(scope, receive, send)

    config = _Config(door.tls)
    config.bind = [str(door.endpoint)]
    config.errorlog = config.accesslog = None
    config.graceful_timeout = GRACE_SECONDS
    async with trio.open_nursery() as nursery:
        nursery.start_soon(door.loop.run)
        binds = await nursery.start(partial(serve, cast("Any", known), config, mode="asgi"))
        port = int(binds[0].rpartition(":")[2])
        bound = Endpoint(host=door.endpoint.host, port=port)
        policy = OriginPolicy.of(bound, door.origins, door.hosts)
        task_status.started(bound)
