"""Runs of messages: the same messages as the parser finds, however the bytes look."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fanout.wire.redis.client import NOT_YET, ReplyReader
from fanout.wire.redis.runs import RUN_BYTES_MIN, DeliveryRun, RunReader, leading_run
from fanout.wire.resp.replies import messages3, pmessages3

NAMES = st.sampled_from([b"c", b"d", b"", b"message", b"\r\n$1\r\n", b"c\r\n$1\r\n"])
PAYLOADS = st.sampled_from([b"", b"x", b"y", b"\r\n", b"12345678", messages3(b"c", [b"x"])])
STREAMS = st.lists(
    st.builds(
        lambda name, payload, times: messages3(name, [payload]) * times,
        NAMES,
        PAYLOADS | st.binary(max_size=30),
        st.integers(1, 5),
    )
    | st.sampled_from([b"+OK\r\n", b":1\r\n", b"$1\r\nx\r\n", pmessages3(b"c*", [(b"c", b"x")])]),
    max_size=6,
).map(b"".join)


def parsed(data: bytes) -> list[object]:
    """Return what the parser finds."""
    reader = ReplyReader()
    reader.feed(data)
    return list(iter(reader.gets, NOT_YET))


@given(STREAMS, st.integers(0, 40), st.integers(0, 4))
@example(messages3(b"c", [messages3(b"c", [b""]), messages3(b"c", [b""])]), 0, 0)
@example(messages3(b"c", [b"x", b"yy"]), 0, 0)
def test_a_run_is_what_the_parser_finds(stream: bytes, cut: int, skipped: int) -> None:
    """And what is behind it, whole or cut off, is left to the parser."""
    data = bytes(skipped) + stream[: len(stream) - cut]
    run = leading_run(data, skipped)
    expected = parsed(data[skipped:])
    if run is not None:
        assert len(run.payloads) > 1
        found = [[b"message", run.channel, each] for each in run.payloads]
        assert found + parsed(data[run.end :]) == expected
        assert len({len(each) for each in run.payloads}) == 1
        if run.begins(data[run.end :]):
            assert parsed(data[run.end :]) == []


@pytest.mark.parametrize("times", [2, 3, 1000])
@pytest.mark.parametrize("payload", [b"", b"x" * 100, b"\r\n"])
def test_equal_messages_in_a_row_are_a_run(times: int, payload: bytes) -> None:
    """All of them, up to the first that is other or not whole."""
    one = messages3(b"c", [payload])
    run = DeliveryRun(b"c", [payload] * times, one[: len(one) - len(payload) - 2], len(one) * times)
    assert leading_run(one * times, 0) == run
    for other in (messages3(b"d", [payload]), one[:-1], b"+OK\r\n"):
        assert leading_run(one * times + other, 0) == run
    assert all(run.begins(one[:length]) for length in range(1, len(one)))
    for other in (b"", one, one + b"x", messages3(b"d", [payload])[:-1], b"+OK\r\n"):
        assert not run.begins(other)


def test_a_payload_may_look_like_the_beginning_of_a_message() -> None:
    """The run ends before it: its length is not what it seems."""
    plain = b"x" * 60
    begin = messages3(b"c", [plain])[:-62]
    tricky = begin.ljust(60, b"x")
    data = messages3(b"c", [plain, plain, tricky, plain, plain])
    run = leading_run(data, 0)
    assert run is not None
    assert run.payloads == [plain, plain]
    rest = messages3(b"c", [tricky, plain, plain])
    assert data[run.end :] == rest
    assert leading_run(rest, 0) is None


def test_a_message_that_is_cut_is_of_the_run_that_goes_on() -> None:
    """It is held back; anything else goes to the parser at once."""
    found: list[bytes] = []
    reader = RunReader(lambda _channel, payloads: found.extend(payloads))
    size = RUN_BYTES_MIN
    data = messages3(b"c", [b"%d" % (number % 10) for number in range(size)])
    one = len(data) // size
    assert reader.take(data[: -one - 5], is_between=True) == b""
    assert len(found) == size - 2
    assert reader.take(data[-one - 5 :], is_between=True) == b""
    assert len(found) == size

    assert reader.take(data + b"+OK", is_between=True) == b"+OK"
    assert reader.take(b"\r\n", is_between=False) == b"\r\n"
    assert reader.take(data, is_between=False) == data, "who knows what this is the middle of"
    assert reader.take(data[: 2 * one], is_between=True) == data[: 2 * one], "too little to gain"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"+OK\r\n" * 3,
        messages3(b"c", [b"x"]),
        messages3(b"c", [b"x", b"yy"]),
        messages3(b"c", [b"x", b"y"])[:-1],
        pmessages3(b"c*", [(b"c", b"x")] * 3),
        b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n:1\r\n" * 2,
        b">3\r\n$7\r\nmessage\r\n$99999999999999999999\r\nc\r\n" * 2,
        b">3\r\n$7\r\nmessage\r\n$-1\r\n$1\r\nx\r\n" * 2,
    ],
)
def test_anything_else_is_no_run(data: bytes) -> None:
    """It is the parser's."""
    assert leading_run(data, 0) is None
