"""The live page: one HTML file in the package that reads the live feed.

Its Content-Security-Policy allows exactly the inline script and style, and connections to this door
and the websocket door: a name of a channel or client cannot inject script.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from importlib.resources import files

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from fanout.values.names import Endpoint

_PAGE = "live_page.html"


def live_page_route(bridge: Endpoint, *, tls: bool) -> Route:
    """Return the route /, the page; its try-it box connects to `bridge`, the websocket door."""
    page = files(__package__).joinpath(_PAGE).read_text("utf-8")
    inline = {tag: _hash(page, tag) for tag in ("script", "style")}
    scheme = "wss" if tls else "ws"

    async def show(request: Request) -> Response:
        # The Host header was checked. A bridge on loopback has the host of this page.
        host = request.url.hostname or ""
        host = f"[{host}]" if ":" in host else host
        bridges = {f"{scheme}://{host}:{bridge.port}", f"{scheme}://{bridge}"}
        return HTMLResponse(page, headers=_headers(inline, " ".join(sorted(bridges))))

    return Route("/", show)


def _headers(inline: Mapping[str, str], bridges: str) -> Headers:
    policy = {
        "default-src": "'none'",
        "script-src": inline["script"],
        "style-src": inline["style"],
        "img-src": "data:",  # the icon
        "connect-src": f"'self' {bridges}",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return Headers(
        {
            "content-security-policy": "; ".join(
                f"{name} {value}" for name, value in policy.items()
            ),
            "referrer-policy": "no-referrer",
            "x-content-type-options": "nosniff",
            "cache-control": "no-store",
        }
    )


def _hash(page: str, tag: str) -> str:
    """Return the CSP source expression of the only `tag` in the page (CSP 3, 2.3.1)."""
    (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    return f"'sha256-{digest}'"
