"""What clients of the RESP door may send, at its edges: the same answer however it is cut.

The first table is what Redis 7.0 answers, asked of a real one by tests/live/test_like_redis.py.
"""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.wire.replies import pack
from fanout.wire.requests import RequestDecoder, RequestLimits
from tests.wire.cuts import cut
from tests.wire.test_doors import decode

LIKE_REDIS = [
    (b"*1\r\nfoo\r\n", b"expected '$', got 'f'"),
    (b"*1\r\n\r\n", b"expected '$', got ' '"),
    (b"*1\r\n\xff\r\n", b"expected '$', got '\xff'"),
    (b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\nfooz\r\n", b"expected '$', got 'f'"),
    (b"*3000000000\r\n", b"invalid multibulk length"),
    (b"*99999999999999999999\r\n", b"invalid multibulk length"),
    (b"*+1\r\n", b"invalid multibulk length"),
    (b"*01\r\n", b"invalid multibulk length"),
    (b"*-0\r\n", b"invalid multibulk length"),
    (b"* 1\r\n", b"invalid multibulk length"),
    (b"*1.0\r\n", b"invalid multibulk length"),
    (b"*\r\n", b"invalid multibulk length"),
    (b"*1\r\n$-10\r\n", b"invalid bulk length"),
    (b"*1\r\n$-1\r\n", b"invalid bulk length"),
    (b"*1\r\n$2000000000\r\n", b"invalid bulk length"),
    (b"*1\r\n$9223372036854775808\r\n", b"invalid bulk length"),
    (b"*1\r\n$blabla\r\n", b"invalid bulk length"),
    (b"*1\r\n$04\r\n", b"invalid bulk length"),
    (b"*1\r\n$\r\n", b"invalid bulk length"),
    (b"*3\r\n$7\r\nPUBLISH\r\n$01\r\nc\r\n$1\r\nx\r\n", b"invalid bulk length"),
    (b"*3\r\n$7\r\nPUBLISH\r\n$1\r\nc\r\n$01\r\nx\r\n", b"invalid bulk length"),
    (b"*3\r\n$7\r\nPUBLISH\r\n$1\r\nc\r\n$-2\r\nx\r\n", b"invalid bulk length"),
]
STRICTER = [
    (b"*1000000\r\n", b"invalid multibulk length"),
    (b"\0", b"inline commands other"),
    (b"\x16\x03\x01\x02", b"inline commands other"),
    (b"$1\r\n", b"inline commands other"),
    (b'"PING\r\n', b"inline commands other"),
    (b"PING 'x\r\n", b"quotes in inline commands"),
    (b'AUTH "\xff\r\n', b"quotes in inline commands"),
    (b"P" * 1024, b"too big inline request"),
    (b"*" + b"1" * 31, b"too big mbulk count string"),
    (b"*1\r\n$" + b"1" * 31, b"too big bulk count string"),
]
"""Redis waits for more of these, or understands them; the door has seen enough."""


@pytest.mark.parametrize(("data", "says"), [*LIKE_REDIS, *STRICTER])
def test_each_way_to_be_wrong_has_its_answer(data: bytes, says: bytes) -> None:
    """At the same byte, whether it comes at once or byte by byte."""
    one_by_one = [b"%c" % byte for byte in data]
    found, reply = decode([data], RequestLimits())

    assert found == []
    assert reply is not None and reply.startswith(b"-ERR Protocol error: " + says)
    assert reply.endswith(b"\r\n") and reply.count(b"\n") == 1
    assert decode(one_by_one, RequestLimits()) == ([], reply)


pieces = st.lists(
    st.binary(max_size=6)
    | st.sampled_from(
        [b"*", b"$", b"\r\n", b"*1\r\n$4\r\nPING\r\n", b"*3\r\n$7\r\nPUBLISH\r\n$1\r\n"]
    )
    | st.lists(st.binary(max_size=30), min_size=1, max_size=4).map(lambda words: pack(*words)),
    max_size=12,
).map(b"".join)


@given(pieces, st.lists(st.integers(0, 300)))
def test_any_bytes_are_cut_the_same_way(data: bytes, places: list[int]) -> None:
    """Requests, then at most one error, whatever the cut; nothing else is ever raised."""
    limits = RequestLimits(arguments_max=3, bulk_bytes_max=25, request_bytes_max=60)
    whole = decode([data], limits)

    assert decode(cut(data, places), limits) == whole
    assert decode([b"%c" % byte for byte in data], limits) == whole


def test_a_request_may_have_as_many_words_as_the_limit() -> None:
    """And not one more."""
    most = RequestLimits().arguments_max

    assert decode([pack(*[b""] * most)], RequestLimits()) == ([[b""] * most], None)
    assert decode([b"*%d\r\n" % (most + 1)], RequestLimits())[1] is not None


@pytest.mark.parametrize("size", [1, 7, 4096, 10**6])
def test_ten_thousand_requests_in_a_row(size: int) -> None:
    """None is lost or invented."""
    wanted = [[b"PUBLISH", b"c", b"%d" % number] for number in range(5000)]
    wanted += [[b"PING"]] * 5000
    data = b"".join(pack(*request) for request in wanted)

    assert decode([data[at : at + size] for at in range(0, len(data), size)], RequestLimits()) == (
        wanted,
        None,
    )


def fed(sent: bytes, piece: bytes, count: int) -> tuple[int, int]:
    """Feed a decoder; return the bytes it then holds, and held at most while the pieces came."""
    decoder = RequestDecoder(RequestLimits())
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        decoder.feed(sent)
        assert decoder.next_request() is None
        for _ in range(count):
            decoder.feed(piece)
            assert decoder.next_request() is None
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return after - before, peak - before


def test_a_large_argument_in_small_pieces_is_not_copied_with_each() -> None:
    """Else a client that sends a megabyte in crumbs would have the sidecar copy gigabytes."""
    after, peak = fed(b"*2\r\n$4\r\nECHO\r\n$1000000\r\n", b"crumbs", 100_000)

    assert 600_000 <= after < 700_000
    assert peak < 800_000  # a copy of it all would double it


def test_half_a_request_takes_no_more_than_has_come() -> None:
    """An announced length is no reason to allocate anything."""
    for half in (b"*16385\r\n", b"*2\r\n$4\r\nECHO\r\n$1114112\r\n", b"*1\r\n$10\r\nx"):
        after, peak = fed(half, b"", 10)
        assert after < 2000 and peak < 3000


def test_the_smallest_words_fill_no_memory() -> None:
    """All words of a request that is never finished: what the list of them takes."""
    after, _ = fed(b"*16385\r\n", b"$2\r\nab\r\n", 16_384)

    assert after < 16_384 * 60
