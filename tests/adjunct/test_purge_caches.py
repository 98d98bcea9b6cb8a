"""Drivers: what they ask for, how answers are understood, and how fast they ask."""

import itertools
from collections.abc import AsyncIterator, Callable
from functools import partial

import attrs
import httpx
import pytest
import trio
from hypothesis import given, reject
from hypothesis import strategies as st
from trio.testing import MockClock

from fanout.adjunct.purge.caches import Cache, Call, driver_of
from fanout.adjunct.purge.message import Target, by_key, by_url, everything
from fanout.adjunct.purge.plan import Failure
from fanout.config import EdgeConfig
from fanout.errors import ConfigError

BASE = "http://127.0.0.1:1"
URLS = by_url("https://h.example/a?b=/c", "http://g:81")


def calls(target: Target, **settings: object) -> list[Call]:
    """Return what a driver asks for."""
    return driver_of(EdgeConfig.from_mapping({"id": "e", **settings}))(target)


def test_varnish_is_asked_for_each_url_and_each_key() -> None:
    """As docs/examples/varnish.vcl understands it; a dot in a key is no more than a dot."""
    varnish = partial(calls, cache="varnish", cache_url=BASE)

    assert varnish(URLS) == [
        Call("PURGE", BASE, (("Host", "h.example"),), path="/a?b=/c", absent=True),
        Call("PURGE", BASE, (("Host", "g:81"),), path="/", absent=True),
    ]
    assert varnish(by_key("a.b", "c")) == [
        Call("BAN", BASE, (("Fanout-Keys", r"a\.b"),), path="/"),
        Call("BAN", BASE, (("Fanout-Keys", "c"),), path="/"),
    ]
    assert varnish(everything()) == [Call("BAN", BASE, (("Fanout-Everything", "yes"),), path="/")]


def test_nginx_knows_no_keys() -> None:
    """It is emptied instead."""
    nginx = partial(calls, cache="nginx", cache_url=BASE)

    assert nginx(URLS) == calls(URLS, cache="varnish", cache_url=BASE)
    assert nginx(everything()) == [Call("PURGE", BASE, path="/*")]
    assert nginx(by_key("a", "b")) == nginx(everything())


def test_an_api_is_asked_by_templates() -> None:
    """Names are quoted in URLs, and in bodies if wished; else everything is purged, once."""
    api = partial(
        calls,
        cache="http",
        url_request='POST https://api/z?u={url} {"files":["{url}"]}',
        key_request="DELETE https://api/{key} key={key_quoted}",
        all_request="POST https://api/all plain text",
    )
    json = (("Content-Type", "application/json"),)

    assert api(by_url("https://h/a?b")) == [
        Call("POST", "https://api/z?u=https%3A%2F%2Fh%2Fa%3Fb", json, '{"files":["https://h/a?b"]}')
    ]
    assert api(by_key("a/../b", "c")) == [
        Call("DELETE", "https://api/a%2F..%2Fb", (), "key=a%2F..%2Fb"),
        Call("DELETE", "https://api/c", (), "key=c"),
    ]
    everywhere = [Call("POST", "https://api/all", (), "plain text")]
    assert api(everything()) == everywhere
    assert calls(URLS, cache="http", all_request="POST https://api/all plain text") == everywhere


@attrs.define
class Server:
    """Answers each request by a script, and keeps when and what was asked."""

    answer: Callable[[httpx.Request], httpx.Response]
    asked: list[tuple[float, httpx.Request]] = attrs.field(factory=list)

    async def apply(
        self, target: Target, per_second: float = 1000, driver: str = "varnish"
    ) -> Failure | None:
        """Apply a purge once."""
        return (await self.apply_all([target], per_second, driver))[0]

    async def apply_all(
        self, targets: list[Target], per_second: float, driver: str = "varnish"
    ) -> list[Failure | None]:
        """Apply purges side by side."""
        settings = {"id": "e", "cache": driver, "cache_url": BASE}
        found: dict[int, Failure | None] = {}
        async with httpx.AsyncClient(transport=httpx.MockTransport(self._handle)) as client:
            cache = Cache(driver_of(EdgeConfig.from_mapping(settings)), client, per_second)

            async def one(number: int, target: Target) -> None:
                found[number] = await cache.apply(target)

            async with trio.open_nursery() as nursery:
                for number, target in enumerate(targets):
                    nursery.start_soon(one, number, target)
        return [found[number] for number in range(len(targets))]

    def _handle(self, request: httpx.Request) -> httpx.Response:
        self.asked.append((trio.current_time(), request))
        return self.answer(request)


@pytest.mark.parametrize(
    ("status", "target", "failure"),
    [
        (200, URLS, None),
        (204, everything(), None),
        (404, URLS, None),
        (412, URLS, None),
        (412, everything(), ("cache_refused", True)),
        (404, everything(), ("cache_refused", True)),
        (405, URLS, ("cache_refused", True)),
        (301, URLS, ("cache_refused", True)),
        (408, URLS, ("cache_unready", False)),
        (429, URLS, ("cache_unready", False)),
        (500, URLS, ("cache_unready", False)),
        (503, everything(), ("cache_unready", False)),
    ],
)
async def test_what_an_answer_means(
    status: int, target: Target, failure: tuple[str, bool] | None
) -> None:
    """Done, or not there anyway; refused for good; or to be tried again."""
    found = await Server(lambda _: httpx.Response(status)).apply(target)

    assert (found and (found.code, found.final)) == failure
    assert found is None or f"with status {status}" in found.message


@pytest.mark.parametrize(
    ("asked", "seconds"), [("7", 7.0), ("3600", 60.0), ("-1", 0.0), ("Wed, 21 Oct 2026", 0.0)]
)
async def test_how_long_a_cache_asks_to_be_left_alone(asked: str, seconds: float) -> None:
    """In seconds, and not for ever."""
    answer = httpx.Response(429, headers={"Retry-After": asked})
    found = await Server(lambda _: answer).apply(everything())

    assert found is not None
    assert found.retry_seconds == seconds


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (httpx.ConnectError("refused"), "cannot be reached: refused"),
        (httpx.ConnectError("a\x1bb" * 1000), "cannot be reached: a?ba?b"),
        (httpx.RemoteProtocolError(""), "cannot be reached: RemoteProtocolError"),
        (httpx.ReadTimeout(""), "does not answer in time"),
    ],
)
async def test_a_cache_that_is_not_there(error: httpx.TransportError, words: str) -> None:
    """To be tried again, and said in words."""

    def answer(_request: httpx.Request) -> httpx.Response:
        raise error

    found = await Server(answer).apply(everything())
    assert found is not None
    assert (found.code, found.final) == ("cache_unreachable", False)
    assert words in found.message
    assert found.message.isprintable()
    assert len(found.message) < 600


async def test_a_url_that_cannot_be_used_is_a_failure_like_others() -> None:
    """It ends no edge."""
    async with httpx.AsyncClient() as client:
        cache = Cache(lambda _: [Call("GET", "http://h\x00/")], client, 1000)
        found = await cache.apply(everything())
    assert found is not None
    assert (found.code, found.final) == ("cache_refused", True)


@given(st.from_regex(r"https?://[A-Za-z0-9._-]{1,9}(:[0-9]{1,5})?/[!-~]{0,20}", fullmatch=True))
def test_any_url_that_may_be_purged_can_be_asked_for(url: str) -> None:
    """By every driver, and what is sent names it."""
    try:
        target = by_url(url)
    except ConfigError:
        reject()
    server = Server(lambda _: httpx.Response(200))
    for driver in ("varnish", "nginx"):
        assert trio.run(server.apply, target, 1000, driver) is None
        _, request = server.asked.pop()
        host, path = request.headers["Host"], request.extensions["target"].decode()
        assert target.names[0].partition("://")[2] == f"{host}{path}"


async def test_the_first_failure_ends_a_purge_of_many() -> None:
    """The whole purge is tried again; what was done twice does no harm."""
    server = Server(lambda _: httpx.Response(503))

    assert await server.apply(URLS) is not None
    assert len(server.asked) == 1


async def test_no_more_requests_than_allowed(autojump_clock: MockClock) -> None:
    """Over all purges together, however many wait; the first at once."""
    server = Server(lambda _: httpx.Response(200))
    began = trio.current_time()
    assert await server.apply_all([URLS, URLS, everything()], per_second=2) == [None] * 3

    times = [when - began for when, _ in server.asked]
    assert len(times) == 5
    assert times[0] == 0
    assert times[-1] == pytest.approx(4 / 2, abs=0.2)
    assert all(later - sooner >= 0.4 - 1e-9 for sooner, later in itertools.pairwise(times))


@pytest.mark.parametrize(
    ("length", "read"), [("65536", True), ("65537", False), ("9" * 5000, False)]
)
async def test_only_short_answers_are_read(length: str, read: bool) -> None:  # noqa: FBT001
    """To use the connection again; what counts is the status."""
    was_read = False

    class Body(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            nonlocal was_read
            was_read = True
            yield b"x"

    answer = httpx.Response(200, headers={"Content-Length": length}, stream=Body())
    assert await Server(lambda _: answer).apply(everything()) is None
    assert was_read is read
