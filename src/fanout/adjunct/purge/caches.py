"""How each kind of cache is asked, and how its answers are understood.

A driver turns a target into calls; it is a plain function. What a driver cannot remove by itself
it removes with everything else: too much is correct, too little is not.
"""

import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeAlias
from urllib.parse import quote, urlsplit

import attrs
import httpx
import trio

from fanout.adjunct.purge.message import Kind, Target, everything, plain
from fanout.adjunct.purge.plan import Failure
from fanout.config import EdgeConfig
from fanout.core.pace import Pace

BODY_BYTES_MAX = 64 * 1024
"""Longest answer that is read, so that its connection can be used again. What it says is not used."""

DIGITS_MAX = 16
"""Longest number that is taken for one in a header."""

RETRY_SECONDS_MAX = 60.0
"""Longest wait that a cache may ask for."""

PASSING = {408, 425, 429}
"""Refusals that are about the moment, not about the request. So is everything from 500 on."""

ABSENT = {404, 412}
"""What modules of nginx say about a page that they do not have."""

Template: TypeAlias = tuple[str, str, str]


@attrs.frozen
class Call:
    """One request to a cache. `path` is sent as it is, where the URL is not to be touched."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""
    path: str = ""
    absent: bool = False  # whether 404 or 412 means that the cache did not have it


Driver: TypeAlias = Callable[[Target], list[Call]]


def _purge(base: str, url: str) -> Call:
    """Return the usual request for one page: PURGE of its path, for its host."""
    parts = urlsplit(url)
    path = f"{parts.path}{'?' if parts.query else ''}{parts.query}"
    return Call("PURGE", base, (("Host", parts.netloc),), path=path, absent=True)


def varnish(base: str, target: Target) -> list[Call]:
    """Ask Varnish with the VCL of docs/examples/varnish.vcl.

    A ban reaches only what is stored before it, so the ban of everything is the purge by age.
    """
    if target.kind is Kind.URL:
        return [_purge(base, url) for url in target.names]
    # Of what a key may hold, only the dot has a meaning in the regular expression that it is there.
    headers = [("Fanout-Keys", key.replace(".", r"\.")) for key in target.names]
    headers = headers or [("Fanout-Everything", "yes")]
    return [Call("BAN", base, (header,), path="/") for header in headers]


def nginx(base: str, target: Target) -> list[Call]:
    """Ask nginx, or what behaves like it: by PURGE, of `/*` for everything. It knows no keys.

    A module that knows no `/*` has no such page either, so only success counts there.
    """
    if target.kind is Kind.URL:
        return [_purge(base, url) for url in target.names]
    return [Call("PURGE", base, path="/*")]


def http(templates: dict[Kind, Template], target: Target) -> list[Call]:
    """Ask an API: one call a name, by the template of its kind or else that of everything.

    A name is quoted where it stands in the URL: whoever may purge may not choose another request.
    """
    if target.kind not in templates:
        target = everything()
    method, url, body = templates[target.kind]
    headers = (("Content-Type", "application/json"),) if body.startswith("{") else ()
    calls = []
    for name in target.names or ("",):
        plain_name, quoted_name = (f"{{{target.kind.value}{end}}}" for end in ("", "_quoted"))
        quoted = quote(name, safe="")
        filled_url = url.replace(plain_name, quoted).replace(quoted_name, quoted)
        filled_body = body.replace(plain_name, name).replace(quoted_name, quoted)
        calls.append(Call(method, filled_url, headers, filled_body))
    return calls


class Cache:
    """One cache, asked by a driver. Made by `open_cache`."""

    def __init__(self, driver: Driver, client: httpx.AsyncClient, per_second: float) -> None:
        self._driver = driver
        self._client = client
        self._pace = Pace(per_second)
        self._turn = trio.Lock()
        self._next = -math.inf

    async def apply(self, target: Target) -> Failure | None:
        """Remove what is meant; return why it did not work, if so."""
        for call in self._driver(target):
            async with self._turn:
                await trio.sleep_until(self._next)
                self._next = trio.current_time() + self._pace.delay_seconds(trio.current_time())
            if (failure := await self._send(call)) is not None:
                return failure
        return None

    async def _send(self, call: Call) -> Failure | None:
        try:
            request = self._client.build_request(
                call.method, call.url, headers=list(call.headers), content=call.body.encode()
            )
            if call.path:
                request.extensions["target"] = call.path.encode()
            response = await self._client.send(request, stream=True)
            try:
                if _is_short(response):
                    async for _ in response.aiter_raw():
                        pass
            finally:
                await response.aclose()
        except httpx.InvalidURL as error:
            why = plain(str(error))
            return Failure("cache_refused", f"the request's URL cannot be used: {why}", final=True)
        except httpx.TimeoutException:
            return Failure("cache_unreachable", "the cache does not answer in time")
        except httpx.TransportError as error:
            why = plain(str(error) or type(error).__name__)
            return Failure("cache_unreachable", f"the cache cannot be reached: {why}")
        return _judged(call, response)


def _is_short(response: httpx.Response) -> bool:
    length = response.headers.get("Content-Length", "")
    return _is_number(length) and int(length) <= BODY_BYTES_MAX


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < DIGITS_MAX


def _judged(call: Call, response: httpx.Response) -> Failure | None:
    status = response.status_code
    if response.is_success or (call.absent and status in ABSENT):
        return None
    said = f"the cache answered {call.method} with status {status}"
    if status in PASSING or response.is_server_error:
        asked = response.headers.get("Retry-After", "")
        seconds = float(asked) if _is_number(asked) else 0.0
        return Failure("cache_unready", said, retry_seconds=min(seconds, RETRY_SECONDS_MAX))
    return Failure("cache_refused", said, final=True)


def driver_of(config: EdgeConfig) -> Driver:
    """Return the driver that the settings choose."""
    match config.cache:
        case "varnish":
            return partial(varnish, config.cache_url)
        case "nginx":
            return partial(nginx, config.cache_url)
    given = {
        Kind.URL: config.url_request,
        Kind.KEY: config.key_request,
        Kind.ALL: config.all_request,
    }
    return partial(http, {kind: template for kind, template in given.items() if template})


@asynccontextmanager
async def open_cache(config: EdgeConfig) -> AsyncIterator[Cache]:
    """Open connections to the cache of an edge as they are needed."""
    headers: Sequence[tuple[str, str]] = config.request_headers
    # A cache beside us is not behind a proxy, and redirects would carry tokens away.
    async with httpx.AsyncClient(
        headers=list(headers),
        timeout=config.cache_timeout_seconds,
        trust_env=config.cache == "http",
        follow_redirects=False,
    ) as client:
        yield Cache(driver_of(config), client, config.requests_per_second_max)
