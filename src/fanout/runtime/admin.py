"""The admin HTTP door: is this sidecar alive, and can it do its work."""

import ssl
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from fanout.values import Endpoint
from fanout.wire.callers import Callers

GRACE_SECONDS = 1.0
"""How long a request may go on once the sidecar leaves."""


class _Config(Config):
    """Hypercorn's settings, with a context of ours: its certificate can be replaced."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        super().__init__()
        self._tls = tls

    @property
    def ssl_enabled(self) -> bool:
        """Whether to speak TLS."""
        return self._tls is not None

    def create_ssl_context(self) -> ssl.SSLContext | None:
        """Return the context."""
        return self._tls


async def serve_admin(
    endpoint: Endpoint,
    unready: Callable[[], str],
    *,
    origins: Sequence[str] = (),
    tls: ssl.SSLContext | None = None,
    hosts: Sequence[str] = (),
    routes: Sequence[BaseRoute] = (),
    task_status: trio.TaskStatus[Endpoint] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve /healthz, /readyz and `routes` until cancelled; reports the bound address as started.

    `unready` says why the sidecar cannot serve its purpose now, or nothing. A request of a page
    that is not in `origins`, or to a name that is not this door's or in `hosts`, gets 403.

    Raises:
        OSError: the address cannot be bound.

    """
    callers = Callers(frozenset(), frozenset())

    async def healthz(_request: Request) -> JSONResponse:
        return JSONResponse({"status": "alive"})

    async def readyz(_request: Request) -> JSONResponse:
        if reason := unready():
            return JSONResponse({"status": "unready", "reason": reason}, status_code=503)
        return JSONResponse({"status": "ready"})

    async def known(request: Request, call_next: RequestResponseEndpoint) -> Response:
        why = callers.refusal(request.headers.get("host"), request.headers.getlist("origin"))
        return JSONResponse({"error": why}, status_code=403) if why else await call_next(request)

    app = Starlette(
        routes=[Route("/healthz", healthz), Route("/readyz", readyz), *routes],
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=known)],
    )
    config = _Config(tls)
    config.bind = [str(endpoint)]
    config.errorlog = config.accesslog = None
    config.graceful_timeout = GRACE_SECONDS
    async with trio.open_nursery() as nursery:
        binds = await nursery.start(partial(serve, cast("Any", app), config, mode="asgi"))
        port = int(binds[0].rpartition(":")[2])
        bound = Endpoint(host=endpoint.host, port=port)
        callers = Callers.of(bound, origins, hosts)
        task_status.started(bound)
