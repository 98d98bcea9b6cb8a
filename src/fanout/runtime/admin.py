"""The admin HTTP door: is this sidecar alive, and can it do its work."""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from fanout.values import Endpoint

GRACE_SECONDS = 1.0
"""How long a request may go on once the sidecar leaves."""


async def serve_admin(
    endpoint: Endpoint,
    unready: Callable[[], str],
    *,
    task_status: trio.TaskStatus[Endpoint] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve /healthz and /readyz until cancelled; reports the bound address as started.

    `unready` says why the sidecar cannot serve its purpose now, or nothing.

    Raises:
        OSError: the address cannot be bound.

    """

    async def healthz(_request: Request) -> JSONResponse:
        return JSONResponse({"status": "alive"})

    async def readyz(_request: Request) -> JSONResponse:
        if reason := unready():
            return JSONResponse({"status": "unready", "reason": reason}, status_code=503)
        return JSONResponse({"status": "ready"})

    app = Starlette(routes=[Route("/healthz", healthz), Route("/readyz", readyz)])
    config = Config()
    config.bind = [str(endpoint)]
    config.errorlog = config.accesslog = None
    config.graceful_timeout = GRACE_SECONDS
    async with trio.open_nursery() as nursery:
        binds = await nursery.start(partial(serve, cast("Any", app), config, mode="asgi"))
        if endpoint.path:
            task_status.started(endpoint)
        else:
            port = int(binds[0].rpartition(":")[2])
            task_status.started(Endpoint(host=endpoint.host, port=port))
