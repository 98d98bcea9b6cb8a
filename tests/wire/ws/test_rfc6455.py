"""RFC 6455 as its fuzzing suite tests it: sections 1 to 7, 9 and 10 of Autobahn, and more.

Each case is what a client sends and what must come of it. It is sent whole, byte by byte and in
pieces of odd sizes: the outcome may not depend on how the network cuts.
"""

import random
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.wire.ws.websocket import (
    HEAD_BYTES_MAX,
    Binary,
    Closed,
    Event,
    Opened,
    Pong,
    Rejected,
    Text,
    WebSocketServer,
)
from tests.support.wire.cases import CASES, FRAGMENTS_MAX, MESSAGE_BYTES_MAX, Case
from tests.support.wire.cuts import cut
from tests.support.wire.rfc6455 import (
    ACCEPT,
    BINARY,
    CLOSE,
    HANDSHAKE,
    MASK,
    PING,
    PONG,
    TEXT,
    frame,
    header,
    sent_frames,
)


def server() -> WebSocketServer:
    """Return a server before its handshake."""
    return WebSocketServer(
        subprotocols=(), message_bytes_max=MESSAGE_BYTES_MAX, fragments_max=FRAGMENTS_MAX
    )


def open_server() -> WebSocketServer:
    """Return a server behind its handshake."""
    opened = server()
    (event,) = opened.receive(HANDSHAKE)
    assert isinstance(event, Opened) and ACCEPT in event.response
    return opened


def pieces_of(data: bytes, how: str) -> list[bytes]:
    """Cut bytes in one of three ways."""
    if how == "whole":
        return [data]
    rng = random.Random(data)
    size = max(1, len(data) // 7) if len(data) > 3000 else 1 if how == "bytes" else 9
    places = [0]
    while places[-1] < len(data):
        places.append(
            min(len(data), places[-1] + (size if how == "bytes" else rng.randint(1, size)))
        )
    return [data[start:end] for start, end in pairwise(places)]


@pytest.mark.parametrize("how", ["whole", "bytes", "odd"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Case, how: str) -> None:
    """Messages, pongs and the Close frame are what they must be, and nothing follows it."""
    websocket, out = open_server(), b""
    events: list[Event] = []
    for piece in pieces_of(case.sent, how):
        events += websocket.receive(piece)
        out += websocket.outgoing()
    messages = tuple(event.data for event in events if isinstance(event, Text | Binary))
    frames = list(sent_frames(out))
    closes = [payload for opcode, payload in frames if opcode == CLOSE]

    assert messages == case.messages
    assert tuple(payload for opcode, payload in frames if opcode == PONG) == case.pongs
    if case.code is None:
        assert not closes
        assert not any(isinstance(event, Closed) for event in events)
        return
    assert events[-1] == Closed(case.code, by_peer=case.by_peer)
    assert len(closes) == 1 and frames[-1][0] == CLOSE
    if case.answer is not None:
        assert closes[0] == case.answer
    else:
        assert int.from_bytes(closes[0][:2]) == case.code
        closes[0][2:].decode()
    assert websocket.receive(frame(TEXT, b"late")) == ()
    assert websocket.outgoing() == b""


def test_an_error_is_noticed_at_its_first_byte() -> None:
    """Half a frame is enough, when more cannot make it right."""
    for sent in (
        header(TEXT, 900) + MASK + b"\xc8" * 2,
        header(BINARY, 2**63),
        header(PING, 126)[:2],
        header(3, 5)[:2],
    ):
        events = open_server().receive(sent)
        assert isinstance(events[-1], Closed), sent


def test_what_clients_send_is_kept_only_up_to_the_limits() -> None:
    """A flood of tiny frames, of pings and of endless fragments leaves memory flat."""
    websocket = open_server()
    flood = frame(TEXT, b"x") * 500 + frame(PING, b"y" * 125) * 20 + frame(PONG) * 100
    tracemalloc.start()
    try:
        for _ in range(10):
            websocket.receive(flood)
            websocket.outgoing()
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        for _ in range(100):
            websocket.receive(flood)
            websocket.outgoing()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert after - before < 50_000
    assert peak - before < 40 * len(flood)


def test_a_message_that_comes_byte_by_byte_takes_no_more_than_its_size() -> None:
    """Pieces are joined as they come, whatever their number: text of one-byte reads is no list."""
    websocket = open_server()
    websocket.receive(header(TEXT, 60_000) + MASK)
    piece = bytes(byte ^ key for byte, key in zip("é€".encode() * 4, MASK * 5, strict=True))
    tracemalloc.start()
    try:
        for _ in range(20, 60_000, 20):
            websocket.receive(piece[:7])
            websocket.receive(piece[7:])
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert size < 100_000


def test_a_message_may_come_in_more_reads_than_it_may_have_fragments() -> None:
    """The network's pieces are no fragments."""
    websocket = open_server()
    sent = frame(BINARY, b"x" * (10 * FRAGMENTS_MAX))
    events = [event for byte in sent for event in websocket.receive(b"%c" % byte)]

    assert events == [Binary(b"x" * (10 * FRAGMENTS_MAX))]


GOOD = HANDSHAKE.decode()


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (GOOD.replace("HTTP/1.1", "HTTP/1.0"), 400),
        (GOOD.replace("HTTP/1.1", "HTTP/2"), 400),
        (GOOD.replace("GET", "POST"), 400),
        (GOOD.replace("Host: h\r\n", ""), 400),
        (GOOD.replace("Host: h", "Host: h\r\nHost: h"), 400),
        (GOOD.replace("Host: h", "Host: \xff"), 400),
        (GOOD.replace("Host: h", "Host: h\r\nSec-WebSocket-Protocol: \xff"), 400),
        (GOOD.replace("Upgrade: websocket", "Upgrade: h2c"), 400),
        (GOOD.replace("keep-alive, Upgrade", "close"), 400),
        (GOOD.replace("Version: 13", "Version: 8"), 426),
        (GOOD.replace("Sec-WebSocket-Version: 13\r\n", ""), 400),
        (GOOD.replace("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="), 400),
        (GOOD.replace("dGhlIHNhbXBsZSBub25jZQ==", "?"), 400),
        (GOOD.replace("Host: h", "Host: h\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 400),
        (GOOD.replace("Host: h", "Host: h\r\nContent-Length: 5"), 400),
        (GOOD.replace("Host: h", "Host: h\r\nTransfer-Encoding: chunked"), 400),
        (GOOD.replace("Host: h", "Host: h\r\nX: \0"), 400),
        ("*1\r\n$4\r\nPING\r\n\r\n", 400),
        ("\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
        ("G" * 16_385, 431),
        (GOOD.replace("Host: h", "Host: h\r\nX: " + "x" * 16_384), 431),
    ],
)
@pytest.mark.parametrize("how", ["whole", "bytes", "odd"])
def test_handshakes_that_are_refused(head: str, status: int, how: str) -> None:
    """Each gets one HTTP answer, the same however it is cut, and then nothing."""
    websocket, out = server(), b""
    events: list[Event] = []
    for piece in pieces_of(head.encode("latin-1") + frame(TEXT, b"x"), how):
        events += websocket.receive(piece)
        out += websocket.outgoing()

    assert events == [Rejected(status)]
    assert out.startswith(b"HTTP/1.1 %d " % status)
    assert b"Connection: close" in out
    assert (b"Sec-WebSocket-Version: 13\r\n" in out) is (status == 426)


@pytest.mark.parametrize("over", range(-2, 6))
@pytest.mark.parametrize("how", ["whole", "bytes"])
def test_a_head_may_be_as_large_as_the_limit(how: str, over: int) -> None:
    """Its empty line counts, however it is cut."""
    head = HANDSHAKE.replace(b"Host: h", b"Host: h\r\nX: ")
    head = head.replace(b"X: ", b"X: " + b"x" * (HEAD_BYTES_MAX + over - len(head)))
    websocket = server()
    pieces = (
        [head] if how == "whole" else [head[:16_000], *(b"%c" % byte for byte in head[16_000:])]
    )
    events = [event for piece in pieces for event in websocket.receive(piece)]

    assert events == [Rejected(431) if over > 0 else Opened(None)]


@pytest.mark.parametrize(
    "line", [b"*1", b"*3\r\n$7\r\nPUBLISH", b"PING", b"", b"GET / HTTP/1.0", b"SSH-2.0-x"]
)
def test_what_is_no_http_is_refused_at_its_first_line(line: bytes) -> None:
    """A client that speaks Redis to this door gets an error at once and does not hang."""
    websocket = server()

    assert websocket.receive(line[:1]) == ()
    assert websocket.receive(line[1:] + b"\r\n") == (Rejected(400),)
    assert websocket.outgoing().startswith(b"HTTP/1.1 400 ")


def test_frames_may_follow_the_handshake_at_once() -> None:
    """In the same read, and cut inside its last line."""
    for end in range(len(HANDSHAKE) - 5, len(HANDSHAKE) + 5):
        websocket, sent = server(), HANDSHAKE + frame(TEXT, b"at once")
        events = websocket.receive(sent[:end]) + websocket.receive(sent[end:])
        assert events == (Opened(None), Text("at once"))


garbage = st.lists(
    st.binary(max_size=20)
    | st.builds(
        frame,
        st.integers(0, 15),
        st.binary(max_size=130),
        fin=st.booleans(),
        rsv=st.sampled_from([0, 0, 0, 0, 1]),
    )
    | st.builds(header, st.integers(0, 15), st.integers(0, 2**64 - 1), fin=st.booleans()),
    max_size=30,
)


@given(pieces=garbage, opened=st.booleans())
def test_whatever_comes_it_waits_or_ends_with_a_close_or_a_refusal(
    *, pieces: list[bytes], opened: bool
) -> None:
    """No bytes raise; the end is said once, with a frame or an HTTP answer, and is the end."""
    websocket = open_server() if opened else server()
    over = False
    for piece in pieces:
        events, out = websocket.receive(piece), websocket.outgoing()
        assert not (over and (events or out))
        for event in events:
            assert not over
            over = isinstance(event, Closed | Rejected)
            assert isinstance(event, Closed | Rejected | Opened | Text | Binary | Pong)
        if over and events and isinstance(events[-1], Closed):
            assert list(sent_frames(out))[-1][0] == CLOSE
        elif over and events:
            assert out.startswith(b"HTTP/1.1 4")


@given(pieces=garbage, cuts=st.lists(st.integers(0, 3000)))
def test_any_frames_mean_the_same_however_they_are_cut(
    pieces: list[bytes], cuts: list[int]
) -> None:
    """Events and answers depend on the bytes alone."""
    data = b"".join(pieces)
    one, other = open_server(), open_server()
    events = list(one.receive(data))
    found = [event for piece in cut(data, cuts) for event in other.receive(piece)]

    assert found == events
    assert _answers(other.outgoing()) == _answers(one.outgoing())


def _answers(out: bytes) -> list[tuple[int, bytes]]:
    """Return the frames sent; of a reason in words only that it is there."""
    return [(code, data[:2] if code == CLOSE else data) for code, data in sent_frames(out)]
