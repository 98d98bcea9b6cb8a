"""Every limit of a client, as it is by default: what fits is done, one more is refused."""

import base64
import json
from collections.abc import Callable

import pytest

from fanout.config import Limits
from fanout.values.requests import Action, Publish, Reply, Subscribe
from fanout.wire.limits import ClientLimits
from fanout.wire.redis.client import pack
from fanout.wire.resp.requests import RequestDecoder
from fanout.wire.resp.session import Session
from fanout.wire.ws.bridge import NAMES_MAX, BridgeSession
from tests.support.wire.decoding import decode
from tests.support.wire.limits import default_limits, request_limits
from tests.support.wire.rfc6455 import sent_frames
from tests.support.wire.sidecar import LoneSidecar, said

NAME = b"n" * 1024
PAYLOAD = b"x" * 1_048_576


def resp(limits: ClientLimits) -> Session:
    """Return the session of a new Redis client."""
    session = Session(1, LoneSidecar(), limits)
    session.handle([b"HELLO", b"3"])
    return session


def code_of(action: Action) -> str:
    """Return the code of a websocket client's error."""
    assert isinstance(action, Reply) and isinstance(action.data, bytes)
    ((_, payload),) = sent_frames(action.data)
    return str(json.loads(payload)["code"])


def ask(session: BridgeSession, op: str, **fields: object) -> Action:
    """Return what a websocket request does."""
    return session.handle(json.dumps({"op": op, **fields}))


def numbered(count: int) -> list[str]:
    """Return so many names."""
    return [f"{number}*" for number in range(count)]


@pytest.mark.parametrize(
    ("verb", "limit", "option"),
    [
        (b"SUBSCRIBE", 16_384, b"subscriptions-max"),
        (b"SSUBSCRIBE", 16_384, b"subscriptions-max"),
        (b"PSUBSCRIBE", 128, b"patterns-max"),
    ],
)
def test_names_of_a_redis_client(verb: bytes, limit: int, option: bytes) -> None:
    """As many as the limit, in one request or many; then none, and nothing of that request."""
    session = resp(default_limits())
    names = [name.encode() for name in numbered(limit)]
    assert isinstance(session.handle([verb, *names[:-1]]), Subscribe)
    assert option in said(session.handle([verb, b"a", b"b"]))
    assert isinstance(session.handle([verb, names[-1]]), Subscribe)
    assert option in said(session.handle([verb, b"a"]))
    assert isinstance(session.handle([verb, *names[:9]]), Subscribe)
    assert sum(map(len, session.state.held.values())) == limit


@pytest.mark.parametrize(
    ("op", "field", "limit"),
    [("subscribe", "channels", 16_384), ("psubscribe", "patterns", 128)],
)
def test_names_of_a_websocket_client(op: str, field: str, limit: int) -> None:
    """The same, in requests of at most 1024 names."""
    session, names = BridgeSession(default_limits()), numbered(limit)
    assert code_of(ask(session, op, **{field: numbered(NAMES_MAX + 1)})) == "bad_request"
    for start in range(0, limit, NAMES_MAX):
        part = names[start : start + NAMES_MAX]
        assert isinstance(ask(session, op, **{field: part}), Subscribe)
    assert code_of(ask(session, op, **{field: ["a"]})) == "too_many_subscriptions"
    assert isinstance(ask(session, op, **{field: names[:9]}), Subscribe)


def test_different_patterns_of_all_clients() -> None:
    """512 over both doors; any client may use one of them, none may add another."""
    limits = default_limits()
    for number in range(4):
        names = [f"{number}-{name}" for name in numbered(128)]
        if number % 2:
            action = ask(BridgeSession(limits), "psubscribe", patterns=names)
        else:
            action = resp(limits).handle([b"PSUBSCRIBE", *(name.encode() for name in names)])
        assert isinstance(action, Subscribe)
    late_resp, late_ws = resp(limits), BridgeSession(limits)
    assert b"distinct-patterns-max" in said(late_resp.handle([b"PSUBSCRIBE", b"new"]))
    assert code_of(ask(late_ws, "psubscribe", patterns=["new"])) == "too_many_subscriptions"
    assert isinstance(late_resp.handle([b"PSUBSCRIBE", b"0-0*"]), Subscribe)
    assert isinstance(ask(late_ws, "psubscribe", patterns=["1-1*"]), Subscribe)


RESP_NAMED: list[Callable[[bytes], list[bytes]]] = [
    lambda name: [b"SUBSCRIBE", b"c", name],
    lambda name: [b"PSUBSCRIBE", name],
    lambda name: [b"SSUBSCRIBE", name],
    lambda name: [b"PUBLISH", name, b"x"],
    lambda name: [b"SPUBLISH", name, b"x"],
]


@pytest.mark.parametrize("request_", RESP_NAMED)
def test_the_longest_name_of_a_redis_client(request_: Callable[[bytes], list[bytes]]) -> None:
    """1024 bytes, and not one more."""
    session = resp(default_limits())
    assert isinstance(session.handle(request_(NAME)), Publish | Subscribe)
    assert b"channel-bytes-max" in said(session.handle(request_(NAME + b"n")))


@pytest.mark.parametrize("op", ["subscribe", "psubscribe", "publish", "binary"])
def test_the_longest_name_of_a_websocket_client(op: str) -> None:
    """Bytes count, not letters."""

    def act(name: str) -> Action:
        session = BridgeSession(default_limits())
        if op == "binary":
            return session.handle_binary(
                b"\x01" + len(name.encode()).to_bytes(2) + name.encode() + b"x"
            )
        if op == "publish":
            return ask(session, op, channel=name, data="x")
        return ask(session, op, **{"channels" if op == "subscribe" else "patterns": [name]})

    assert isinstance(act("é" * 512), Publish | Subscribe)
    assert code_of(act("é" * 512 + "n")) == "name_too_long"


def test_the_largest_message() -> None:
    """A megabyte by every way to publish, and not a byte more; nothing is asked of the fleet then."""
    for size in (0, 1, 65_536, len(PAYLOAD) - 1, len(PAYLOAD)):
        payload = PAYLOAD[:size]
        text, encoded = payload.decode(), base64.b64encode(payload).decode()
        assert resp(default_limits()).handle([b"PUBLISH", b"c", payload]) == Publish(b"c", payload)
        session = BridgeSession(default_limits())
        assert ask(session, "publish", channel="c", data=text) == Publish(b"c", payload, b"")
        assert ask(session, "publish", channel="c", data_base64=encoded) == Publish(
            b"c", payload, b""
        )
        assert session.handle_binary(b"\x01\x00\x01c" + payload) == Publish(b"c", payload, b"")
    over, session = PAYLOAD + b"x", BridgeSession(default_limits())
    for verb in (b"PUBLISH", b"publish", b"SPUBLISH"):
        assert b"payload-bytes-max" in said(resp(default_limits()).handle([verb, b"c", over]))
    encoded = base64.b64encode(over).decode()
    for action in (
        ask(session, "publish", channel="c", data=over.decode()),
        ask(session, "publish", channel="c", data_base64=encoded),
        session.handle_binary(b"\x01\x00\x01c" + over),
    ):
        assert code_of(action) == "message_too_large"


@pytest.mark.parametrize("size", [8_000_000, 32_000_000])
def test_far_too_large_messages_are_refused_by_their_announced_length(size: int) -> None:
    """Nothing of them is read."""
    head = pack(b"PUBLISH", b"c", b"x" * size)[:40]

    assert decode([head], request_limits()) == ([], b"-ERR Protocol error: invalid bulk length\r\n")


def test_a_transaction() -> None:
    """What fits may be queued; what does not spoils it, and is not kept."""
    limit = Limits().transaction_bytes_max
    session = resp(default_limits())
    session.handle([b"MULTI"])
    for _ in range(7):
        assert said(session.handle([b"PUBLISH", b"c", PAYLOAD])) == b"+QUEUED\r\n"
    assert 7 * len(PAYLOAD) < session.state.queue_bytes <= limit == 8_388_608
    assert b"transaction-bytes-max" in said(session.handle([b"PUBLISH", b"c", PAYLOAD]))
    assert session.state.queue == []
    assert said(session.handle([b"EXEC"])).startswith(b"-EXECABORT")


def test_the_smallest_requests_of_a_transaction_count_too() -> None:
    """Each takes memory beside its bytes."""
    session = resp(default_limits())
    session.handle([b"MULTI"])
    for _ in range(8_388_608 // 64):
        if said(session.handle([b"PING"])) != b"+QUEUED\r\n":
            break
    else:
        pytest.fail("no limit")
    assert session.state.queue == []


def test_what_the_options_say_is_what_applies() -> None:
    """Each limit of the configuration is a limit of the decoder or of the sessions."""
    limits, applied = Limits(), default_limits()

    assert applied.payload_bytes_max == limits.payload_bytes_max
    assert applied.channel_bytes_max == limits.channel_bytes_max
    assert applied.subscriptions_max == limits.subscriptions_max
    assert applied.patterns_max == limits.patterns_max
    assert applied.patterns.distinct_max == limits.distinct_patterns_max
    assert applied.transaction_bytes_max == limits.transaction_bytes_max
    assert RequestDecoder(request_limits()).limits.arguments_max == limits.arguments_max
