"""Purge requests for each kind of cache, and the interpretation of the responses.

If a cache cannot purge a page selectively, everything is purged: to purge too much is correct, to
purge too little is not.
"""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import trio

from fanout.adjunct.purge import Kind, Target
from fanout.config import EdgeConfig
from fanout.core.pace import Pace
from fanout.errors import CodedError
from fanout.runtime.process.logs import shown

RETRY_SECONDS_MAX = 60.0  # longest Retry-After that is honoured
PASSING = {408, 425, 429}  # temporary errors, as is every status from 500 on
ABSENT = {404, 412}  # responses of nginx modules to a PURGE of a page that is not cached


class CacheFailed(CodedError):  # noqa: N818 - an outcome that is reported
    """A purge failed. `code` is stable; if `refused`, a retry would be refused again."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.refused = code == "cache_refused"


def requests(config: EdgeConfig, target: Target) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the requests that purge `target`: method, URL, keywords of `httpx.AsyncClient.stream`.

    The path of a page is passed as the raw request target, since httpx would normalise it in the
    URL. Names in a URL are percent-encoded, so that a name cannot change the request.
    """
    base = config.cache_url
    match config.cache, target.kind:
        case "http", kind:
            own = {Kind.URL: config.url_request, Kind.KEY: config.key_request}.get(kind)
            method, url, body = own or config.all_request or ("", "", "")
            headers = {"Content-Type": "application/json"} if body.startswith("{") else {}
            plain_place, quoted_place = f"{{{kind.value}}}", f"{{{kind.value}_quoted}}"
            for name in target.names if own else ("",):
                quoted = quote(name, safe="")
                filled = url.replace(quoted_place, quoted).replace(plain_place, quoted)
                content = body.replace(quoted_place, quoted).replace(plain_place, name)
                yield method, filled, {"headers": headers, "content": content.encode()}
        case _, Kind.URL:
            for name in target.names:
                host, _, path = name.partition("://")[2].partition("/")
                sent = {"target": f"/{path}".encode()}
                yield "PURGE", base, {"headers": {"Host": host}, "extensions": sent}
        case "varnish", Kind.KEY:
            for key in target.names:  # a regular expression; only the dot is special
                yield "BAN", base, {"headers": {"Fanout-Keys": key.replace(".", r"\.")}}
        case "varnish", _:
            yield "BAN", base, {"headers": {"Fanout-Everything": "yes"}}
        case _:
            yield "PURGE", base, {"extensions": {"target": b"/*"}}


class Cache:
    """A client of one cache, limited to the configured request rate."""

    def __init__(self, config: EdgeConfig, client: httpx.AsyncClient) -> None:
        self._config = config
        self._client = client
        self._pace = Pace(config.requests_per_second_max)
        self._turn = trio.Lock()
        self._due = 0.0  # time of the next request

    async def purge(self, target: Target) -> None:
        """Purge `target` from the cache. Raises CacheFailed."""
        for method, url, more in requests(self._config, target):
            async with self._turn:
                await trio.sleep_until(self._due)
                now = trio.current_time()
                self._due = max(self._due, now + self._pace.delay_seconds(now))
            try:
                with trio.fail_after(self._config.cache_timeout_seconds):
                    response = await self._ask(method, url, more)
            except trio.TooSlowError:
                why = "timeout while waiting for the cache"
                raise CacheFailed("cache_unreachable", why) from None
            except (httpx.TransportError, httpx.InvalidURL, UnicodeError) as error:
                why = shown(str(error)) or type(error).__name__
                raise CacheFailed("cache_unreachable", f"cannot reach the cache: {why}") from None
            page = target.kind is Kind.URL and self._config.cache != "http"
            if not response.is_success and not (page and response.status_code in ABSENT):
                raise self._failure(method, response)

    async def _ask(self, method: str, url: str, more: dict[str, Any]) -> httpx.Response:
        async with self._client.stream(method, url, **more) as response:
            # A short response is read to its end, so that the connection can be reused.
            if re.fullmatch("[0-9]{1,5}", response.headers.get("Content-Length", "")):
                async for _ in response.aiter_raw():
                    pass
        return response

    def _failure(self, method: str, response: httpx.Response) -> CacheFailed:
        why = f"the cache responded to {method} with status {response.status_code}"
        if response.status_code not in PASSING and not response.is_server_error:
            return CacheFailed("cache_refused", why)
        asked = response.headers.get("Retry-After", "")
        if re.fullmatch("[0-9]{1,9}", asked):
            rest = min(float(asked), RETRY_SECONDS_MAX)
            self._due = max(self._due, trio.current_time() + rest)
        return CacheFailed("cache_unready", why)
