"""Drivers: what they ask for, how answers are understood, and how fast they ask."""

import itertools
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import attrs
import httpx
import pytest
import trio
from hypothesis import given, reject
from hypothesis import strategies as st
from trio.testing import MockClock

from fanout.adjunct.caches import Cache, CacheFailed, requests
from fanout.adjunct.purge import Target, by_key, by_url, everything
from fanout.config import EdgeConfig
from fanout.errors import ConfigError

BASE = "http://127.0.0.1:1"
URLS = by_url("https://h.example/a?b=/c", "http://g:81")


def config(**settings: object) -> EdgeConfig:
    """Return the settings of an edge; of one beside Varnish unless they say otherwise."""
    given = {"id": "e", "requests_per_second_max": 1000, **settings}
    return EdgeConfig.from_mapping({"cache": "varnish", "cache_url": BASE} | given)


def api(**settings: object) -> EdgeConfig:
    """Return the settings of an edge of an API."""
    return EdgeConfig.from_mapping({"id": "e", "cache": "http", **settings})


def asked(config: EdgeConfig, target: Target) -> list[tuple[str, str, dict[str, Any]]]:
    """Return what a driver asks for."""
    return list(requests(config, target))


def page(host: str, path: bytes) -> tuple[str, str, dict[str, Any]]:
    """Return the request for one page."""
    return "PURGE", BASE, {"headers": {"Host": host}, "extensions": {"target": path}}


def test_varnish_is_asked_for_each_url_and_each_key() -> None:
    """As docs/examples/varnish.vcl understands it; a dot in a key is no more than a dot."""
    varnish = partial(asked, config())

    assert varnish(URLS) == [page("h.example", b"/a?b=/c"), page("g:81", b"/")]
    assert varnish(by_key("a.b", "c")) == [
        ("BAN", BASE, {"headers": {"Fanout-Keys": r"a\.b"}}),
        ("BAN", BASE, {"headers": {"Fanout-Keys": "c"}}),
    ]
    assert varnish(everything()) == [("BAN", BASE, {"headers": {"Fanout-Everything": "yes"}})]


def test_nginx_knows_no_keys() -> None:
    """It is emptied instead."""
    nginx = partial(asked, config(cache="nginx"))

    assert nginx(URLS) == asked(config(), URLS)
    assert nginx(everything()) == [("PURGE", BASE, {"extensions": {"target": b"/*"}})]
    assert nginx(by_key("a", "b")) == nginx(everything())


def test_an_api_is_asked_by_templates() -> None:
    """Names are quoted in URLs, and in bodies if wished; else everything is purged, once."""
    whole = api(
        url_request='POST https://api/z?u={url} {"files":["{url}"]}',
        key_request="DELETE https://api/{key_quoted} key={key_quoted}",
        all_request="POST https://api/all plain text",
    )
    json = {"Content-Type": "application/json"}

    assert asked(whole, by_url("https://h/a?{url_quoted}{url}")) == [
        (
            "POST",
            "https://api/z?u=https%3A%2F%2Fh%2Fa%3F%7Burl_quoted%7D%7Burl%7D",
            {"headers": json, "content": b'{"files":["https://h/a?{url_quoted}{url}"]}'},
        )
    ]
    assert asked(whole, by_key("a/../b", "c")) == [
        ("DELETE", "https://api/a%2F..%2Fb", {"headers": {}, "content": b"key=a%2F..%2Fb"}),
        ("DELETE", "https://api/c", {"headers": {}, "content": b"key=c"}),
    ]
    everywhere = [("POST", "https://api/all", {"headers": {}, "content": b"plain text"})]
    assert asked(whole, everything()) == everywhere
    assert asked(api(all_request="POST https://api/all plain text"), URLS) == everywhere


@attrs.define
class Server:
    """Answers each request by a script, and keeps when and what was asked."""

    answer: Callable[[httpx.Request], httpx.Response]
    seconds: float = 0.0  # before each answer
    asked: list[tuple[float, httpx.Request]] = attrs.field(factory=list)

    async def purge(self, *targets: Target, config: EdgeConfig = config()) -> CacheFailed | None:  # noqa: B008 - frozen
        """Have all removed side by side; return why the last that failed did."""
        failures: list[CacheFailed] = []
        async with httpx.AsyncClient(transport=httpx.MockTransport(self.handle)) as client:
            cache = Cache(config, client)

            async def one(target: Target) -> None:
                try:
                    await cache.purge(target)
                except CacheFailed as failure:
                    failures.append(failure)

            async with trio.open_nursery() as nursery:
                for target in targets:
                    nursery.start_soon(one, target)
        return failures[-1] if failures else None

    async def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer as the cache."""
        self.asked.append((trio.current_time(), request))
        await trio.sleep(self.seconds)
        return self.answer(request)


PURGE_ALL = api(all_request="PURGE http://h/")
REFUSED, UNREADY = "cache_refused", "cache_unready"


@pytest.mark.parametrize(
    ("status", "target", "settings", "code"),
    [
        (200, URLS, config(), None),
        (204, everything(), config(), None),
        (404, URLS, config(), None),
        (412, URLS, config(cache="nginx"), None),
        (412, everything(), config(cache="nginx"), REFUSED),
        (404, by_key("a"), config(cache="nginx"), REFUSED),
        (404, URLS, PURGE_ALL, REFUSED),
        (405, URLS, config(), REFUSED),
        (301, URLS, config(), REFUSED),
        (408, URLS, config(), UNREADY),
        (425, URLS, config(), UNREADY),
        (429, URLS, config(), UNREADY),
        (500, URLS, config(), UNREADY),
        (503, everything(), config(), UNREADY),
    ],
)
async def test_what_an_answer_means(
    status: int, target: Target, settings: EdgeConfig, code: str | None
) -> None:
    """Done, or not there anyway; refused for good; or to be tried again."""
    found = await Server(lambda _: httpx.Response(status)).purge(target, config=settings)

    assert (found and found.code) == code
    assert found is None or f"with status {status}" in str(found)
    assert found is None or found.refused is (code == REFUSED)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("7", 7.0), ("3600", 60.0), ("-1", 0.0), ("Wed, 21 Oct 2026", 0.0), ("9" * 5000, 0.0)],
)
async def test_a_cache_that_asks_for_a_rest_gets_it(
    said: str, seconds: float, autojump_clock: MockClock
) -> None:
    """In seconds, and not for ever; nothing else is asked meanwhile."""
    answer = httpx.Response(429, headers={"Retry-After": said})
    server = Server(lambda _: answer)
    async with httpx.AsyncClient(transport=httpx.MockTransport(server.handle)) as client:
        cache = Cache(config(), client)
        for _ in range(2):
            with pytest.raises(CacheFailed):
                await cache.purge(everything())

    first, second = (when for when, _ in server.asked)
    assert second - first == pytest.approx(seconds, abs=0.01)


async def test_a_waiting_request_does_not_end_the_rest(autojump_clock: MockClock) -> None:
    """It goes out in its turn, and all others after the rest."""
    server = Server(lambda _: httpx.Response(429, headers={"Retry-After": "7"}), seconds=0.1)
    targets = [by_key(key) for key in "abc"]
    assert await server.purge(*targets, config=config(requests_per_second_max=2)) is not None

    first, second, third = (when for when, _ in server.asked)
    assert second - first == pytest.approx(0.4)
    assert third - first == pytest.approx(0.1 + 7)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (httpx.ConnectError("refused"), "cannot reach the cache: refused"),
        (httpx.ConnectError("a\x1bb" * 1000), r"cannot reach the cache: a\x1bba\x1bb"),
        (httpx.RemoteProtocolError(""), "cannot reach the cache: RemoteProtocolError"),
    ],
)
async def test_a_cache_that_is_not_there(error: httpx.TransportError, words: str) -> None:
    """To be tried again, and said in words."""

    def answer(_request: httpx.Request) -> httpx.Response:
        raise error

    found = await Server(answer).purge(everything())
    assert found is not None
    assert (found.code, found.refused) == ("cache_unreachable", False)
    assert words in str(found)
    assert str(found).isprintable()
    assert len(str(found)) < 5000


@pytest.mark.parametrize("length", ["5", ""])
async def test_a_cache_has_its_time_as_a_whole(length: str, autojump_clock: MockClock) -> None:
    """However it fills it: by silence, or by sending its answer a little at a time."""

    class Slow(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            while True:
                await trio.sleep(1)
                yield b"x"

    class Transport(httpx.AsyncBaseTransport):
        async def handle_async_request(self, _request: httpx.Request) -> httpx.Response:
            if not length:
                await trio.sleep_forever()
            return httpx.Response(200, headers={"Content-Length": "99999"}, stream=Slow())

    settings = config(cache_timeout_seconds=3)
    async with httpx.AsyncClient(transport=Transport()) as client:
        with pytest.raises(CacheFailed, match="timeout while waiting for the cache") as caught:
            await Cache(settings, client).purge(everything())
    assert caught.value.code == "cache_unreachable"
    assert trio.current_time() == pytest.approx(3)


@pytest.mark.parametrize(
    ("url", "words"),
    [("http://[::1/", "Invalid port"), ("http://a..b/", "label empty or too long")],
)
async def test_a_url_that_cannot_be_used_is_a_failure_like_others(url: str, words: str) -> None:
    """Of the settings, since no name that is purged makes one. It ends no edge."""
    async with httpx.AsyncClient() as client:
        with pytest.raises(CacheFailed, match=words) as caught:
            await Cache(api(all_request=f"POST {url}"), client).purge(everything())
    assert caught.value.code == "cache_unreachable"


@given(st.from_regex(r"https?://[A-Za-z0-9._-]{1,9}(:[0-9]{1,5})?/[!-~]{0,20}", fullmatch=True))
def test_any_url_that_may_be_purged_can_be_asked_for(url: str) -> None:
    """By every driver, and what is sent names it."""
    try:
        target = by_url(url)
    except ConfigError:
        reject()
    server = Server(lambda _: httpx.Response(200))
    for driver in ("varnish", "nginx"):
        assert trio.run(partial(server.purge, target, config=config(cache=driver))) is None
        _, request = server.asked.pop()
        host, path = request.headers["Host"], request.extensions["target"].decode()
        assert target.names[0].partition("://")[2] == f"{host}{path}"


async def test_the_first_failure_ends_a_purge_of_many() -> None:
    """The whole purge is tried again; what was done twice does no harm."""
    server = Server(lambda _: httpx.Response(503))

    assert await server.purge(URLS) is not None
    assert len(server.asked) == 1


async def test_no_more_requests_than_allowed(autojump_clock: MockClock) -> None:
    """Over all purges together, however many wait; the first at once."""
    server = Server(lambda _: httpx.Response(200))
    began = trio.current_time()
    settings = config(requests_per_second_max=2)
    assert await server.purge(URLS, URLS, everything(), config=settings) is None

    times = [when - began for when, _ in server.asked]
    assert len(times) == 5
    assert times[0] == 0
    assert times[-1] == pytest.approx(4 / 2, abs=0.2)
    assert all(later - sooner >= 0.4 - 1e-9 for sooner, later in itertools.pairwise(times))


@pytest.mark.parametrize(("length", "read"), [("99999", True), ("100000", False), ("", False)])
async def test_only_short_answers_are_read(length: str, read: bool) -> None:  # noqa: FBT001
    """To use the connection again; what counts is the status."""
    was_read = False

    class Body(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            nonlocal was_read
            was_read = True
            yield b""

    answer = httpx.Response(
        200, headers={"Content-Length": length} if length else {}, stream=Body()
    )
    assert await Server(lambda _: answer).purge(everything()) is None
    assert was_read is read
