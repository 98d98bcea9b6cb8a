"""What clients of the RESP door may send, at its edges: the same answer however it is cut.

The first table is what Redis 7.0 answers, asked of a real one by tests/live/sidecar/test_like_redis.py.
"""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.errors import RemoteProtocolError
from fanout.values.requests import Publish, PublishRun
from fanout.wire.redis.client import pack
from fanout.wire.resp.heads import PublishHeadCache
from fanout.wire.resp.requests import RequestDecoder
from fanout.wire.resp.session import Session
from tests.support.wire.cuts import cut
from tests.support.wire.decoding import decode
from tests.support.wire.like_redis import LIKE_REDIS
from tests.support.wire.limits import default_limits, request_limits
from tests.support.wire.sidecar import USERS, LoneSidecar

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
    found, reply = decode([data], request_limits())

    assert found == []
    assert reply is not None and reply.startswith(b"-ERR Protocol error: " + says)
    assert reply.endswith(b"\r\n") and reply.count(b"\n") == 1
    assert decode(one_by_one, request_limits()) == ([], reply)


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
    limits = request_limits(arguments_max=3, bulk_bytes_max=25, request_bytes_max=60)
    whole = decode([data], limits)

    assert decode(cut(data, places), limits) == whole
    assert decode([b"%c" % byte for byte in data], limits) == whole


def test_a_request_may_have_as_many_words_as_the_limit() -> None:
    """And not one more."""
    most = request_limits().arguments_max

    assert decode([pack(*[b""] * most)], request_limits()) == ([[b""] * most], None)
    assert decode([b"*%d\r\n" % (most + 1)], request_limits())[1] is not None


@pytest.mark.parametrize("size", [1, 7, 4096, 10**6])
def test_ten_thousand_requests_in_a_row(size: int) -> None:
    """None is lost or invented."""
    wanted = [[b"PUBLISH", b"c", b"%d" % number] for number in range(5000)]
    wanted += [[b"PING"]] * 5000
    data = b"".join(pack(*request) for request in wanted)

    assert decode([data[at : at + size] for at in range(0, len(data), size)], request_limits()) == (
        wanted,
        None,
    )


def fed(sent: bytes, piece: bytes, count: int) -> tuple[int, int]:
    """Feed a decoder; return the bytes it then holds, and held at most while the pieces came."""
    decoder = RequestDecoder(request_limits())
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


CHANNELS = [b"c", b"", b"a\r\n$1", b"$", b"long" * 100, b"$1\r\nx\r\n", b"1", b"fanout:x"]
pieces_of_publishes = st.one_of(
    st.tuples(
        st.sampled_from([b"PUBLISH", b"publish", b"PuBlIsH", b"SPUBLISH", b"PING"]),
        st.sampled_from(CHANNELS),
        st.sampled_from([b"", b"x", b"\r\n", b"y" * 70, b"z" * 300]),
    ).map(lambda words: pack(*words)),
    st.sampled_from(
        [
            b"*3\r\n$7\r\nPUBLISH\r\n$1\r\nc\r\n$1\r\nxyz",  # ends as nothing should
            b"*3\r\n$7\r\nSPUBLISH\r\n$1\r\nc\r\n$1\r\nx\r\n",
            b"*3\r\n$8\r\nSPUBLISH\r\n$1\r\nc\r\n$1\r\nx\r\n",
        ]
    ),
    st.sampled_from([b"*3\r\n", b"$7\r\nPUBLISH\r\n", b"$1\r\nc\r\n", b"$01\r\n", b"+", b"\r\n"]),
)


def served(pieces: list[bytes], *, runs: bool) -> tuple[list[tuple[bytes, ...]], bytes | None]:
    """Return what a client asks for, message by message, and the reply to a protocol error."""
    session, decoder = LoneSidecar().join(1), RequestDecoder(request_limits())
    found: list[tuple[bytes, ...]] = []
    try:
        for piece in pieces:
            decoder.feed(piece)
            while True:
                run = decoder.publishes(session.known, session._heads.lengths) if runs else None
                if run is not None:
                    starts = [0, *run.ends]
                    for channel, start, end in zip(run.channels, starts, run.ends, strict=False):
                        command = run.data[start:end]
                        ((verb, again, payload),), _ = decode([command], request_limits())
                        assert (command, again) == (pack(verb, channel, payload), channel)
                        found.append((channel, payload))
                if (request := decoder.next_request()) is None:
                    break
                action = session.handle(request)
                if isinstance(action, Publish):
                    found.append((action.channel, action.payload))
                else:
                    found.append(tuple(request))
    except RemoteProtocolError as error:
        return found, error.reply
    return found, None


@given(st.lists(pieces_of_publishes, max_size=12), st.lists(st.integers(0, 2000)))
def test_messages_in_a_row_mean_what_they_mean_one_by_one(
    parts: list[bytes], places: list[int]
) -> None:
    """However they are cut: the same messages, the same refusals, the same errors."""
    data = b"".join(parts)

    assert served(cut(data, places), runs=True) == served([data], runs=False)


def test_a_known_channel_makes_a_run() -> None:
    """From its second message on, whole messages only, for every client of the door."""
    heads = PublishHeadCache()
    one, two = (Session(number, LoneSidecar(), default_limits(), heads=heads) for number in (1, 2))
    decoder = RequestDecoder(request_limits())
    message = pack("PUBLISH", "c", "x")
    decoder.feed(message)

    assert decoder.publishes(one.known, heads.lengths) is None

    request = decoder.next_request()
    assert request is not None
    one.handle(request)
    decoder.feed(message * 3 + pack("PUBLISH", "c", "other")[:-1])

    assert decoder.publishes(two.known, heads.lengths) == PublishRun(
        [b"c"] * 3, message * 3, [len(message) * n for n in (1, 2, 3)]
    )
    assert decoder.next_request() is None
    decoder.feed(b"\n")
    assert decoder.next_request() == [b"PUBLISH", b"c", b"other"]


def test_what_one_user_may_publish_another_may_not() -> None:
    """A known command does not imply the right to send it."""
    heads, decoder = PublishHeadCache(), RequestDecoder(request_limits())
    one, two = (
        Session(number, LoneSidecar(users=USERS), default_limits(), heads=heads)
        for number in (1, 2)
    )
    one.handle([b"AUTH", b"d"])
    two.handle([b"AUTH", b"u", b"s"])
    for channel in (b"p", b"other"):
        one.handle([b"PUBLISH", channel, b"x"])
    commands = pack("PUBLISH", "p", "x") + pack("PUBLISH", "other", "x")
    for session, channels in ((one, [b"p", b"other"]), (two, [b"p"])):
        decoder = RequestDecoder(request_limits())
        decoder.feed(commands)
        run = decoder.publishes(session.known, heads.lengths)

        assert run is not None
        assert run.channels == channels


def test_what_is_known_of_commands_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forgetting costs only decoding one again."""
    monkeypatch.setattr("fanout.wire.resp.heads.HEADS_MAX", 10)
    heads = PublishHeadCache()
    for number in range(100):
        heads.learn(b"PUBLISH", b"c%d" % number, number)

    assert len(heads.channels) <= 10
    assert len(heads.lengths) <= 10


@pytest.mark.parametrize(
    "command",
    [
        b"*3\r\n$7\r\nPUBLISH\r\n$1\r\nc\r\n$1\r\nxyz",
        b"*3\r\n$7\r\nSPUBLISH\r\n$1\r\nc\r\n$1\r\nx\r\n",
        b"*3\r\n$7\r\nPUBLISH\r\n$1\r\nc\r\n$01\r\nx\r\n",
        b"*3\r\n$7\r\nPUBLISH\r\n$1\r\nc\r\n$2\r\nxx\r\n",
        b"*3\r\n$8\r\nSPUBLISH\r\n$1\r\nc\r\n$1\r\nx\r\n",
    ],
)
def test_only_what_is_in_order_goes_to_a_node_as_it_came(command: bytes) -> None:
    """What differs by a byte from what is known is decoded like anything else."""
    heads, decoder = PublishHeadCache(), RequestDecoder(request_limits())
    session = Session(1, LoneSidecar(), default_limits(), heads=heads)
    for verb in (b"PUBLISH", b"SPUBLISH"):
        session.handle([verb, b"c", b"x"])
    decoder.feed(command)

    assert decoder.publishes(session.known, heads.lengths) is None
