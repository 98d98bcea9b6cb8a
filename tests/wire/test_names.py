"""Names and payloads of any bytes: exact, or refused; they never split a line of the protocol."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fanout.core.access import Access, Users, digest
from fanout.values.names import Kind
from fanout.values.requests import Exec, Publish, Reply, Subscribe
from fanout.wire.redis.client import NOT_YET, PushNotification, ReplyReader
from fanout.wire.resp import replies as encode
from fanout.wire.resp.command_table import COMMANDS
from fanout.wire.resp.session import Session
from fanout.wire.ws.bridge import BridgeSession
from tests.support.wire.limits import default_limits
from tests.support.wire.sidecar import LoneSidecar, said

any_bytes = st.binary(max_size=20) | st.sampled_from(
    [
        b"",
        b" ",
        b"\r\n",
        b"+OK\r\n",
        b"\0",
        b"\xff",
        b"\xed\xa0\x80",
        b"*",
        b"c\r\n$1\r\n",
        b"\x1b[2J",
    ]
)


def replies(data: bytes) -> list[object]:
    """Read replies; every byte must belong to one."""
    reader, found = ReplyReader(), []
    reader.feed(data)
    while (reply := reader.gets()) is not NOT_YET:
        found.append(list(reply) if isinstance(reply, PushNotification) else reply)
    reader.feed(b"+end\r\n")
    assert reader.gets() == b"end"
    return found


@given(any_bytes, any_bytes, any_bytes)
def test_deliveries_are_exact(pattern: bytes, channel: bytes, payload: bytes) -> None:
    """In both protocols, of every kind."""
    assert (
        replies(encode.messages2(channel, [payload]) + encode.messages3(channel, [payload]))
        == [[b"message", channel, payload]] * 2
    )
    assert (
        replies(
            encode.pmessages2(pattern, [(channel, payload)])
            + encode.pmessages3(pattern, [(channel, payload)])
        )
        == [[b"pmessage", pattern, channel, payload]] * 2
    )
    assert (
        replies(encode.smessages2(channel, [payload]) + encode.smessages3(channel, [payload]))
        == [[b"smessage", channel, payload]] * 2
    )


verbs = st.sampled_from([word for name in COMMANDS for word in name.split(b"|")])


@given(st.lists(st.lists(any_bytes | verbs, min_size=1, max_size=4), max_size=8), st.booleans())
@example([[b"\r\n-ERR x"]], False)
@example([[b"CLIENT", b"\n\n"]], False)
def test_every_request_has_one_reply(requests: list[list[bytes]], resp3: bool) -> None:  # noqa: FBT001
    """Or as many confirmations as it has names; whatever the words, none breaks out of its line."""
    session = LoneSidecar().join(1)
    if resp3:
        session.handle([b"HELLO", b"3"])
    for request in requests:
        action = session.handle(request)
        found = replies(said(action))
        if isinstance(action, Subscribe):
            assert len(found) == len(request) - 1
        elif isinstance(action, Reply | Publish | Exec) and not session.state.silent:
            assert len(found) <= 1


@given(st.binary(max_size=30).filter(lambda name: not name.startswith(b"__fanout:")))
def test_redis_clients_may_use_any_name(name: bytes) -> None:
    """It is carried as it is."""
    session = Session(1, LoneSidecar(), default_limits())
    assert session.handle([b"PUBLISH", name, b""]) == Publish(name, b"")
    action = session.handle([b"SUBSCRIBE", name])
    assert isinstance(action, Subscribe) and action.names == (name,)
    assert replies(said(action)) == [[b"subscribe", name, 1]]


@given(st.text(max_size=20).filter(lambda name: not name.startswith("__fanout:")))
def test_websocket_clients_may_use_any_text(name: str) -> None:
    """However its letters are escaped."""
    plain = json.dumps({"op": "subscribe", "channels": [name]}, ensure_ascii=False)
    units = memoryview(name.encode("utf-16-le")).cast("H")
    letters = "".join(f"\\u{unit:04x}" for unit in units)
    escaped = f'{{"op":"subscribe","channels":["{letters}"]}}'
    wanted = Subscribe(Kind.CHANNEL, (name.encode(),), b"", b"")

    assert (
        BridgeSession(default_limits()).handle(plain)
        == BridgeSession(default_limits()).handle(escaped)
        == wanted
    )


RESERVED = [b"__fanout:", b"__fanout:control", b"__fanout:\xff", b"__fanout:\0"]


@pytest.mark.parametrize("name", RESERVED)
def test_reserved_names_are_refused_everywhere(name: bytes) -> None:
    """By every command and operation that takes a name."""
    for verb in (b"PUBLISH", b"SPUBLISH", b"SUBSCRIBE", b"PSUBSCRIBE", b"SSUBSCRIBE"):
        words = [verb, name, b"x"] if verb.endswith(b"PUBLISH") else [verb, b"ok", name]
        assert b"reserved" in said(Session(1, LoneSidecar(), default_limits()).handle(words))
    binary = b"\x01" + len(name).to_bytes(2) + name
    assert b"reserved_channel" in said(BridgeSession(default_limits()).handle_binary(binary))
    for request in (
        {"op": "publish", "channel": name.decode("latin-1"), "data": ""},
        {"op": "subscribe", "channels": [name.decode("latin-1")]},
        {"op": "psubscribe", "patterns": [name.decode("latin-1")]},
    ):
        assert b"reserved_channel" in said(
            BridgeSession(default_limits()).handle(json.dumps(request))
        )


USERS = Users.from_mapping(
    {"users": {"u": {"secrets": [digest(b"s")], "publish": ["café"], "subscribe": ["café", "a?"]}}}
)
ALIASES = ["CAFÉ", "cafe\u0301", "café\0", " café", "café ", "caf\u0439"]
"""The same in another case, form or company is another channel."""


def access() -> Access:
    """Return what the user may do."""
    found = USERS.log_in("u", b"s")
    assert found is not None
    return found


@pytest.mark.parametrize("alias", ALIASES)
def test_a_right_has_no_aliases(alias: str) -> None:
    """Bytes are compared, at both doors, whatever a client writes them as."""
    session, bridge = (
        Session(1, LoneSidecar(users=USERS), default_limits()),
        BridgeSession(default_limits()),
    )
    session.handle([b"AUTH", b"u", b"s"])
    bridge.access = access()
    real = "café"
    assert isinstance(session.handle([b"PUBLISH", real.encode(), b""]), Publish)
    assert isinstance(bridge.handle('{"op":"publish","channel":"caf\\u00e9","data":""}'), Publish)
    refused = [
        session.handle([verb, alias.encode(), b""][: 3 if verb.endswith(b"PUBLISH") else 2])
        for verb in (b"PUBLISH", b"SPUBLISH", b"SUBSCRIBE", b"SSUBSCRIBE", b"PSUBSCRIBE")
    ]
    assert all(said(each).startswith(b"-NOPERM ") for each in refused)
    for request in (
        {"op": "publish", "channel": alias, "data": ""},
        {"op": "subscribe", "channels": [alias]},
        {"op": "psubscribe", "patterns": [alias]},
    ):
        assert b"forbidden" in said(bridge.handle(json.dumps(request)))
    latin = b"\x01\x00\x04caf\xe9"
    assert b"forbidden" in said(bridge.handle_binary(latin))


def test_a_pattern_that_overlaps_what_is_denied_is_denied() -> None:
    """Only letter by letter the same pattern is allowed: any other may match more."""
    bridge, session = (
        BridgeSession(default_limits()),
        Session(1, LoneSidecar(users=USERS), default_limits()),
    )
    bridge.access = access()
    session.handle([b"AUTH", b"u", b"s"])
    for pattern in ("a?", "a*", "*", "a[b]", "ab", "café"):
        request = json.dumps({"op": "psubscribe", "patterns": [pattern]})
        assert b"forbidden" in said(bridge.handle(request))
        assert said(session.handle([b"PSUBSCRIBE", pattern.encode()])).startswith(b"-NOPERM ")


@pytest.mark.parametrize("name", [b"U", b"u\0", b"u\0x", b" u", b"u\r", b"\xff", b""])
def test_a_user_has_no_aliases(name: bytes) -> None:
    """Not even one that a C program would take for the name."""
    session = Session(1, LoneSidecar(users=USERS), default_limits())
    for request in ([b"AUTH", name, b"s"], [b"HELLO", b"3", b"AUTH", name, b"s"]):
        assert said(session.handle(request)).startswith(b"-WRONGPASS ")
    assert session.locked
