"""The admin door: an HTTP server with liveness, readiness and further routes."""

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
"""How long a reader may read nothing before its connection is closed."""

SEND_BUFFER_BYTES = 131_072
"""The send buffer of a connection, about; a snapshot of a large fleet fits."""

GRACE_SECONDS = 1.0
"""How long requests may run on during shutdown."""


@attrs.frozen
class Readiness:
    """Whether a service is ready, and why."""

    unready: str  # the reason; empty when ready
    facts: Mapping[str, Any]
    """The facts behind it, for people: texts, numbers, lists and mappings."""


@attrs.frozen(kw_only=True, eq=False)
class AdminDoor:
    """The settings of an admin door.

    Attributes:
        endpoint: the address to bind.
        readiness: returns whether the service is ready.
        loop: measures the event loop while the door is served.
        routes: further routes, besides /healthz and /readyz.
        tls: the TLS context; None for plain HTTP.
        hosts: further allowed names in the Host header; other names get 403.
        origins: allowed values of the Origin header; other origins get 403.

    """

    endpoint: Endpoint
    readiness: Callable[[], Readiness]
    loop: LoopWatch
    routes: Sequence[BaseRoute] = ()
    tls: ssl.SSLContext | None = None
    hosts: Sequence[str] = ()
    origins: Sequence[str] = ()


class _Config(Config):
    """Hypercorn's settings with a given TLS context, whose certificate can be replaced."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        super().__init__()
        self._tls = tls

    @property
    def ssl_enabled(self) -> bool:
        """Whether to speak TLS."""
        return self._tls is not None

    def create_sockets(self) -> Sockets:
        """Return the listening sockets; their connections inherit the socket options.

        TCP_USER_TIMEOUT ends the connection of a reader that reads nothing: hypercorn would wait
        for it and cannot be cancelled meanwhile. A small send buffer limits the memory used.
        """
        sockets = super().create_sockets()
        for each in (*sockets.secure_sockets, *sockets.insecure_sockets):
            milliseconds = int(STALL_SECONDS * 1000)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        return sockets

    def create_ssl_context(self) -> ssl.SSLContext | None:
        """Return the TLS context."""
        return self._tls


async def serve_admin(
    door: AdminDoor, *, task_status: trio.TaskStatus[Endpoint] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve an admin door until cancelled; pass the bound address to `task_status`.

    Raises:
        OSError: the address cannot be bound; in an exception group, as from any nursery.

    """
    policy = OriginPolicy(frozenset(), frozenset())

    async def healthz(_request: Request) -> JSONResponse:
        lag = door.loop.last_seconds
        reason = f"the event loop is running; last measured lag {lag:.3f} s"
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
