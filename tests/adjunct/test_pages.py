"""The middleware that makes pages purgeable, without any server."""

from typing import Any

import pytest

from fanout.adjunct.pages import (
    HEADER_BYTES_MAX,
    App,
    CacheHeaders,
    CachePolicy,
    Message,
    Receive,
    Scope,
    Send,
    tag,
)
from fanout.errors import ConfigError

DEFAULT = b"public, max-age=0, s-maxage=60, stale-while-revalidate=30"
Headers = list[tuple[bytes, bytes]]


async def ask(
    app: App, *, method: str = "GET", asked: Headers | None = None, kind: str = "http"
) -> list[Message]:
    """Return what an application sends."""
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("nothing is received")

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {"type": kind, "method": method, "headers": asked or []}
    await app(scope, receive, send)
    return sent


def page(*keys: str, status: int = 200, headers: Headers | None = None) -> App:
    """Return an application of one page."""

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        tag(scope, *keys)
        await send({"type": "http.response.start", "status": status, "headers": headers or []})
        await send({"type": "http.response.body", "body": b"x"})

    return app


async def headers_of(app: App, **request: Any) -> Headers:
    """Return the headers of an answer; check that the body is unchanged."""
    start, body = await ask(app, **request)
    assert body == {"type": "http.response.body", "body": b"x"}
    return list(start["headers"])


async def test_a_page_gets_its_keys_and_how_long_it_may_be_kept() -> None:
    """Keys once each, in the order they came; headers of the page stay."""
    app = CacheHeaders(page("b", "a", "b", headers=[(b"x", b"y")]))

    assert await headers_of(app) == [
        (b"x", b"y"),
        (b"surrogate-key", b"b a"),
        (b"cache-control", DEFAULT),
    ]


async def test_the_policy_is_what_is_written() -> None:
    """All three times."""
    policy = CachePolicy(shared_seconds=1, browser_seconds=2, stale_while_revalidate_seconds=3)
    value = b"public, max-age=2, s-maxage=1, stale-while-revalidate=3"

    assert await headers_of(CacheHeaders(page(), policy)) == [(b"cache-control", value)]


@pytest.mark.parametrize("value", [-1, 1.5, True, "60"])
def test_a_policy_of_no_whole_seconds_is_refused(value: Any) -> None:
    """The message names the field."""
    with pytest.raises(ConfigError, match=f"browser_seconds: {value!r}"):
        CachePolicy(browser_seconds=value)


@pytest.mark.parametrize(
    ("method", "status", "page_headers", "asked", "value"),
    [
        ("HEAD", 404, [], [], DEFAULT),
        ("POST", 200, [], [], None),
        ("GET", 500, [], [], None),
        ("GET", 302, [], [], None),
        ("GET", 200, [(b"Cache-Control", b"no-store")], [], b"no-store"),
        ("GET", 200, [(b"Set-Cookie", b"a=b")], [], b"private, no-store"),
        ("GET", 200, [], [(b"Authorization", b"Bearer x")], b"private, no-store"),
        ("GET", 200, [], [(b"cookie", b"a=b")], DEFAULT),
    ],
)
async def test_what_may_be_shared(
    method: str, status: int, page_headers: Headers, asked: Headers, value: bytes | None
) -> None:
    """Not what is for one visitor, nor what is no page; what the page says is stronger."""
    app = CacheHeaders(page(status=status, headers=page_headers))
    found = [
        each
        for name, each in await headers_of(app, method=method, asked=asked)
        if name.lower() == b"cache-control"
    ]

    assert found == ([] if value is None else [value])


async def test_wrong_keys_are_errors_of_the_page() -> None:
    """A key that is lost would leave the page in the cache for ever."""
    with pytest.raises(ConfigError, match="key: invalid value 'a b'"):
        await ask(CacheHeaders(page("a b")))
    fits = ["k" * 249 + str(number) for number in range(10)] * 2
    assert len(" ".join(dict.fromkeys(fits))) < HEADER_BYTES_MAX
    await ask(CacheHeaders(page(*fits)))
    with pytest.raises(ConfigError, match=f"exceed the limit of {HEADER_BYTES_MAX}"):
        await ask(CacheHeaders(page(*("k" * 249 + str(number) for number in range(10, 40)))))


async def test_a_page_outside_is_told_so() -> None:
    """Else its keys would be dropped in silence."""
    with pytest.raises(LookupError, match="wrap the application"):
        await ask(page("a"))


async def test_keys_pass_through_copies_of_the_scope_and_do_not_leak() -> None:
    """Frameworks hand copies on; the next request begins anew."""
    inner = page("a")

    async def copying(scope: Scope, receive: Receive, send: Send) -> None:
        await inner({**scope, "path": "/x"}, receive, send)

    app = CacheHeaders(copying)
    for _ in range(2):
        assert (b"surrogate-key", b"a") in await headers_of(app)


async def test_websockets_and_lifespan_pass_untouched() -> None:
    """They have no headers of this kind."""

    async def other(scope: Scope, _receive: Receive, send: Send) -> None:
        assert scope == {"type": "websocket", "method": "GET", "headers": []}
        await send({"type": "websocket.accept"})

    assert await ask(CacheHeaders(other), kind="websocket") == [{"type": "websocket.accept"}]
