"""The gateway over HTTP: whoever asks is told an instance, browsers are sent there."""

import math
from typing import Any

import attrs
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from fanout.adjunct.gateway.pools import GatewayError, Pick, Pools, UnknownPool
from fanout.adjunct.gateway.status import Shown, shown

COOKIE_PREFIX = "fanout_gateway_"
"""With a pool's name behind it: the cookie that holds a token."""


def gateway_routes(
    pools: Pools, *, lifetime_seconds: float, retry_seconds: float
) -> tuple[Route, ...]:
    """Return the routes that hand out users.

    Args:
        pools: chooses.
        lifetime_seconds: how long a browser keeps the token.
        retry_seconds: when to ask again where no instance is active.

    """

    async def listing(_request: Request) -> Response:
        known = pools.instances()
        empty: Shown = {pool: [] for pool in known}
        return _json(empty | shown(each for pool in known.values() for each in pool.values()))

    async def pick(request: Request) -> Response:
        pool: str = request.path_params["pool"]
        cookie = f"{COOKIE_PREFIX}{pool}"
        token = request.query_params.get("token") or request.cookies.get(cookie)
        try:
            picked = pools.pick(pool, token)
        except UnknownPool as error:
            return _refusal(error, 404)
        except GatewayError as error:
            return _refusal(error, 503, {"retry-after": str(math.ceil(retry_seconds))})
        answer = _redirect(picked) if _wants_redirect(request) else None
        if answer is None:
            answer = _json(attrs.asdict(picked))
        if picked.token is not None:
            answer.set_cookie(
                cookie,
                picked.token,
                max_age=int(lifetime_seconds),
                secure=request.url.scheme == "https",
                httponly=True,
                samesite="lax",
            )
        return answer

    return (Route("/gateway", listing), Route("/gateway/{pool}", pick))


def _wants_redirect(request: Request) -> bool:
    """Whether to send a browser on; others get JSON and decide."""
    accepted = request.headers.get("accept", "")
    is_page = "text/html" in accepted and "application/json" not in accepted
    return "redirect" in request.query_params or is_page


def _redirect(picked: Pick) -> Response | None:
    """Return a redirect; None for an address that no browser can go to."""
    if not picked.address.lower().startswith(("http://", "https://")):
        return None
    return RedirectResponse(picked.address, 307, headers={"cache-control": "no-store"})


def _json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(content, status, {"cache-control": "no-store", **(headers or {})})


def _refusal(
    error: GatewayError, status: int, headers: dict[str, str] | None = None
) -> JSONResponse:
    return _json({"code": error.code, "error": str(error)}, status, headers)
