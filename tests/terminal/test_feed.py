"""The reader of the live feed against admin doors that are none, or misbehave."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from itertools import pairwise

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from fanout.config import TopConfig
from fanout.errors import FeedLost
from fanout.terminal import feed
from fanout.terminal.feed import Feed, read_events

EVENTS = (
    b'retry: 1000\n\nevent: snapshot\ndata: {"number": 1}\n\n: note\n\nevent: closing\ndata: {}\n\n'
)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """Return a piece of a body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


async def events(*pieces: bytes) -> list[tuple[str, str]]:
    """Return name and data of the events in a body that comes in pieces."""

    async def body() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    return [(event.event, event.data) async for event in read_events(body())]


@given(st.lists(st.integers(0, len(EVENTS)), max_size=5))
async def test_events_are_the_same_however_they_are_split(cuts: list[int]) -> None:
    """A comment and the time to wait are none."""
    places = [0, *sorted(cuts), len(EVENTS)]
    found = await events(*(EVENTS[a:b] for a, b in pairwise(places)))

    assert found == [("snapshot", '{"number": 1}'), ("closing", "{}")]


@pytest.mark.parametrize("pieces", [[b"data: " + b"x" * 5], [b"data: ", b"x" * 5]])
async def test_an_endless_event_is_given_up(
    monkeypatch: pytest.MonkeyPatch, pieces: list[bytes]
) -> None:
    """Memory is bounded."""
    monkeypatch.setattr(feed, "EVENT_BYTES_MAX", 10)
    with pytest.raises(FeedLost, match="exceeds 10 bytes"):
        await events(*pieces)


async def test_only_one_event_counts_towards_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """However the blank line between two is split."""
    monkeypatch.setattr(feed, "EVENT_BYTES_MAX", 10)
    found = await events(b"data: x\n", b"\ndata: y", b"\n\ndata: z\n\n")

    assert [data for _, data in found] == ["x", "y", "z"]


@asynccontextmanager
async def door(*answers: bytes, hold: bool = False) -> AsyncIterator[Feed]:
    """Yield a feed of a door that gives one answer to each connection, and hangs up or holds."""
    left = list(answers)

    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(left.pop(0) if left else b"")
        if hold:
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        with trio.fail_after(30):
            yield Feed(TopConfig(admin_url=f"http://127.0.0.1:{port}/", timeout_seconds=0.2))
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "not an HTTP server"),
        (b"-ERR what\r\n", "not an HTTP server"),
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "no live feed"),
        (
            b'HTTP/1.1 503 Busy\r\ncontent-length: 16\r\n\r\n{"error": "fu\x1b"}',
            "refused with status 503: ",
        ),
        (b"HTTP/1.1 403 No\r\ncontent-length: 4\r\n\r\nno\x1bo", "status 403: no\\x1bo"),
        (HEAD + chunk(b"event: snapshot\ndata: []\n\n"), "not the live feed of a sidecar"),
        (HEAD + chunk(b"event: snapshot\ndata: {\n\n"), "not the live feed of a sidecar"),
        (HEAD + chunk(b"event: closing\ndata: {}\n\n"), "the sidecar is shutting down"),
        (HEAD + b"0\r\n\r\n", "ended the feed"),
        (HEAD + b"5\r\n:", "connection lost"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "not the live feed of a sidecar"),
    ],
)
async def test_what_is_no_feed_is_said_in_words(answer: bytes, words: str) -> None:
    """With the address and the option, and nothing that a terminal would obey."""
    async with door(answer) as one, aclosing(one.follow()) as looks:
        with pytest.raises(FeedLost) as caught:
            await anext(looks)

    assert words in str(caught.value)
    assert "--admin-url" in str(caught.value)
    assert str(caught.value).isprintable()


async def test_a_silent_door_is_given_up() -> None:
    """Looks come each second, so silence is an end."""
    async with door(HEAD, hold=True) as one, aclosing(one.follow()) as looks:
        with pytest.raises(FeedLost, match="silent for"):
            await anext(looks)


async def test_a_feed_that_is_lost_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once connected, every end of the feed appears among the looks."""
    monkeypatch.setattr(feed, "RETRY_SECONDS", 0)
    whole = HEAD + chunk(b'event: snapshot\ndata: {"number": 1}\n\n') + b"0\r\n\r\n"
    async with door(whole, b"", whole) as one, aclosing(one.follow()) as looks:
        found = [await anext(looks) for _ in range(4)]

    assert found[0] == found[3] == {"number": 1}
    assert [str(each) for each in found[1:3]] == [
        "the sidecar ended the feed",
        "not an HTTP server",
    ]
