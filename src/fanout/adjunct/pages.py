"""Headers that let pages be kept in shared caches and purged by key: a pure ASGI middleware.

    app = CacheHeaders(app, CachePolicy(shared_seconds=600))

    async def app(scope, receive, send):
        tag(scope, "article-7", "home")
        ...

A page that sets Cache-Control itself keeps it. A page that is for one visitor is told to shared
caches as such: one that sets a cookie, or answers a request with Authorization.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

import attrs

from fanout.adjunct.purge import by_key
from fanout.errors import ConfigError

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

HEADER_BYTES_MAX = 7_500
"""All keys of a page with the spaces between them: Varnish takes 8 KiB a header, name included."""

STATUSES = {200, 203, 204, 300, 301, 308, 404, 410}
"""Answers that may be kept: those that mean the same to the next visitor."""

_KEYS = "fanout.purge.keys"


@attrs.frozen(kw_only=True)
class CachePolicy:
    """How long a page may be kept, in seconds. Raises ConfigError: not whole seconds from 0."""

    shared_seconds: int = 60
    """By caches that can be purged. Raising it spares the origin and lengthens how long an edge
    that is cut off from the fleet serves what was purged."""

    browser_seconds: int = 0
    """By browsers. Raising it shows visitors old pages: no purge reaches browsers."""

    stale_while_revalidate_seconds: int = 30
    """How much longer caches may serve it while they fetch it anew. Raising it hides a slow origin
    behind older pages."""

    def __attrs_post_init__(self) -> None:
        for name, value in attrs.asdict(self).items():
            if type(value) is not int or value < 0:
                raise ConfigError(f"{name}: {value!r} is not allowed; give whole seconds from 0")


def tag(scope: Scope, *keys: str) -> None:
    """Say what a page shows, so that a purge of any of these keys removes it.

    Raises:
        ConfigError: a key has a form that is not allowed, or all keys do not fit into a header.
        LookupError: the application is not inside `CacheHeaders`.

    """
    if _KEYS not in scope:
        raise LookupError("tag works only inside CacheHeaders; wrap the application in it")
    grown = scope[_KEYS] | dict.fromkeys(by_key(key).names[0] for key in keys)
    if (size := len(" ".join(grown))) > HEADER_BYTES_MAX:
        raise ConfigError(f"key: {size} bytes of keys; a page may have {HEADER_BYTES_MAX}")
    scope[_KEYS].update(grown)


class CacheHeaders:
    """Wraps an ASGI application; safe around any other middleware and framework."""

    def __init__(self, app: App, policy: CachePolicy | None = None) -> None:
        self._app = app
        times = policy or CachePolicy()
        self._public = (
            f"public, max-age={times.browser_seconds}, s-maxage={times.shared_seconds}, "
            f"stale-while-revalidate={times.stale_while_revalidate_seconds}"
        ).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI asks for."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        keys: dict[str, None] = {}  # in the order they came

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                names = {bytes(name).lower() for name, _ in headers}
                if keys:
                    headers.append((b"surrogate-key", " ".join(keys).encode()))
                shared = scope["method"] in ("GET", "HEAD") and message["status"] in STATUSES
                if shared and b"cache-control" not in names:
                    asked = {name.lower() for name, _ in scope["headers"]}
                    private = b"set-cookie" in names or b"authorization" in asked
                    value = b"private, no-store" if private else self._public
                    headers.append((b"cache-control", value))
                message = {**message, "headers": headers}
            await send(message)

        await self._app({**scope, _KEYS: keys}, receive, send_with_headers)
