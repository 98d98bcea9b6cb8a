"""ASGI middleware that sets the headers for shared caches and purges by surrogate key.

    app = CacheHeaders(app, CachePolicy(shared_seconds=600))

    async def app(scope, receive, send):
        tag(scope, "article-7", "home")
        ...

A Cache-Control header set by the application is kept. A response for one visitor is marked private:
one that sets a cookie, or answers a request with Authorization.
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
"""Length of the Surrogate-Key value: Varnish accepts 8 KiB per header, name included."""

STATUSES = {200, 203, 204, 300, 301, 308, 404, 410}
"""Cacheable status codes."""

_KEYS = "fanout.purge.keys"


@attrs.frozen(kw_only=True)
class CachePolicy:
    """How long a page may be cached, in whole seconds. Raises ConfigError for other values."""

    shared_seconds: int = 60
    """In shared caches, which can be purged. Raising it takes load off the origin, and lengthens the
    time for which an edge that is cut off from the fleet serves purged pages."""

    browser_seconds: int = 0
    """In browsers. Raising it shows visitors stale pages: purges do not reach browsers."""

    stale_while_revalidate_seconds: int = 30
    """How long caches may serve a stale page while they fetch a new one. Raising it hides a slow
    origin behind older pages."""

    def __attrs_post_init__(self) -> None:
        for name, value in attrs.asdict(self).items():
            if type(value) is not int or value < 0:
                raise ConfigError(f"{name}: {value!r} is invalid: expected whole seconds from 0")


def tag(scope: Scope, *keys: str) -> None:
    """Add surrogate keys to the response: a purge of any of them removes the page.

    Raises:
        ConfigError: a key is invalid, or all keys together exceed the limit of a header.
        LookupError: the application is not wrapped in `CacheHeaders`.

    """
    if _KEYS not in scope:
        raise LookupError("tag() requires CacheHeaders; wrap the application in it")
    grown = scope[_KEYS] | dict.fromkeys(by_key(key).names[0] for key in keys)
    if (size := len(" ".join(grown))) > HEADER_BYTES_MAX:
        raise ConfigError(f"key: {size} bytes of keys exceed the limit of {HEADER_BYTES_MAX}")
    scope[_KEYS].update(grown)


class CacheHeaders:
    """Wraps an ASGI application of any framework."""

    def __init__(self, app: App, policy: CachePolicy | None = None) -> None:
        self._app = app
        times = policy or CachePolicy()
        self._public = (
            f"public, max-age={times.browser_seconds}, s-maxage={times.shared_seconds}, "
            f"stale-while-revalidate={times.stale_while_revalidate_seconds}"
        ).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
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
