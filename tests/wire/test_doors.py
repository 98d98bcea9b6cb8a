"""What clients send: decoded within bounds, the same however the bytes are cut."""

import base64
import json
from typing import Any

import pytest
import wsproto
from hypothesis import given
from hypothesis import strategies as st
from wsproto import events as ws

from fanout.values.names import Kind
from fanout.values.requests import Publish, Reply, Subscribe, Unsubscribe
from fanout.wire.limits import Patterns
from fanout.wire.redis.client import pack
from fanout.wire.resp.requests import UNAUTHENTICATED, RequestDecoder
from fanout.wire.resp.session import Session
from fanout.wire.ws.bridge import BridgeSession
from fanout.wire.ws.bridge_frames import message_frames, pmessage_frames
from fanout.wire.ws.frames import text_frame
from fanout.wire.ws.websocket import Binary, Closed, Opened, Rejected, Text, WebSocketServer
from tests.support.wire.cuts import cut
from tests.support.wire.decoding import decode
from tests.support.wire.limits import default_limits, request_limits
from tests.support.wire.sidecar import LoneSidecar, said

requests = st.lists(st.lists(st.binary(max_size=20), min_size=1, max_size=4), max_size=5)


@given(requests, st.lists(st.integers(0, 500)))
def test_requests_survive_any_cut(wanted: list[list[bytes]], places: list[int]) -> None:
    """However the network slices them, the same requests come out."""
    published = [[b"PUBLISH", *request[:2]] for request in wanted if len(request) > 1]
    data = b"".join(pack(*request) for request in wanted + published)

    assert decode(cut(data, places), request_limits()) == (wanted + published, None)


@given(
    st.lists(
        st.sampled_from(
            [b"*", b"$", b"1", b"3", b"-", b"\r\n", b"\n", b"PING", b"x", b"7\r\nPUBLISH"]
        )
    ).map(b"".join),
    st.lists(st.integers(0, 60)),
)
def test_garbage_is_cut_the_same_way(data: bytes, places: list[int]) -> None:
    """Any bytes give requests or one protocol error, whatever the cut."""
    limits = request_limits(arguments_max=4, bulk_bytes_max=40, inline_bytes_max=30)

    assert decode(cut(data, places), limits) == decode([data], limits)


@pytest.mark.parametrize(
    "data",
    [
        b"*16386\r\n",
        b"*2\r\n$7\r\nPUBLISH\r\n$1114113\r\n",
        b"x" * 1025,
        b"*1\r\n$" + b"9" * 40,
        b"*20\r\n" + 17 * (b"$1114112\r\n" + b"x" * 1_114_112 + b"\r\n"),
    ],
    ids=lambda data: repr(data[:20]),
)
def test_what_is_too_large_is_refused_before_it_comes(data: bytes) -> None:
    """The announced number is enough to hang up."""
    _, reply = decode([data], request_limits())

    assert reply is not None and reply.startswith(b"-ERR Protocol error")


def test_who_has_not_logged_in_is_read_less_of() -> None:
    """The limits are Redis' own, and are lifted in the middle of what has come already."""
    hello = pack(*(b"HELLO 3 AUTH me secret SETNAME name".split()))
    for data, words in (
        (b"*11\r\n", b"unauthenticated multibulk length"),
        (b"*x\r\n", b"invalid multibulk length"),
        (b"*2\r\n$4\r\nAUTH\r\n$16385\r\n", b"unauthenticated bulk length"),
        (pack(b"PUBLISH", b"c", b"x" * 16_385), b"unauthenticated bulk length"),
    ):
        found, reply = decode([hello + data], UNAUTHENTICATED)
        assert len(found) == 1
        assert reply == b"-ERR Protocol error: " + words + b"\r\n"
    decoder = RequestDecoder(UNAUTHENTICATED)
    wanted = [b"SUBSCRIBE", *[b"c%d" % number for number in range(100)]]
    decoder.feed(hello + pack(*wanted))
    assert decoder.next_request() is not None
    decoder.limits = request_limits()

    assert decoder.next_request() == wanted


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b"ping\n", [[b"ping"]]),
        (b"  AUTH me   secret\r\n", [[b"AUTH", b"me", b"secret"]]),
        (b"\r\n\nQUIT\n", [[b"QUIT"]]),
        (b"PUBLISH c x\r\n", []),
        (b'AUTH "a b"\r\n', []),
    ],
)
def test_few_commands_may_come_as_a_line(line: bytes, found: list[list[bytes]]) -> None:
    """Those a user types to check the connection; a message could come from a browser."""
    requests, reply = decode([line], request_limits())

    assert requests == found
    assert (reply is None) is bool(found)


def test_patterns_of_websocket_clients_count_too() -> None:
    """Both doors share the limit of distinct patterns, and give back what a client had."""
    limits = default_limits(patterns=Patterns(1))
    first, second = BridgeSession(limits), Session(1, LoneSidecar(), limits)
    first.handle('{"op":"psubscribe","patterns":["a*"]}')
    assert b"distinct-patterns-max" in said(second.handle([b"PSUBSCRIBE", b"b*"]))
    first.close()
    assert isinstance(second.handle([b"PSUBSCRIBE", b"b*"]), Subscribe)


@pytest.mark.parametrize("line", [b"GET / HTTP/1.1", b"POST /x HTTP/1.1", b"Host: a"])
def test_http_is_hung_up_on(line: bytes) -> None:
    """A browser must not be able to speak Redis by accident."""
    assert decode([line + b"\r\n"], request_limits()) == ([], b"")


def test_reserved_channels_are_refused_at_both_doors() -> None:
    """Clients cannot touch fanout's own messages."""
    for request in ([b"PUBLISH", b"__fanout:x", b""], [b"SUBSCRIBE", b"ok", b"__fanout:x"]):
        session = Session(1, LoneSidecar(), default_limits())
        action = session.handle(request)
        assert b"reserved" in said(action)
        assert not session.subscribed
    action = BridgeSession(default_limits()).handle(
        '{"op":"publish","channel":"__fanout:x","data":""}'
    )
    assert b"reserved_channel" in said(action)


def shown(frame: bytes) -> Any:
    """Return the JSON of an unmasked text frame."""
    assert frame[0] == 0x81
    start = {126: 4, 127: 10}.get(frame[1], 2)
    return json.loads(frame[start:])


@given(st.binary(), st.binary(max_size=300))
def test_every_delivery_is_exact_json(channel: bytes, payload: bytes) -> None:
    """Any channel and payload can be read back from the frame, byte for byte."""
    for frame in (
        message_frames(channel, [payload]),
        pmessage_frames(b"p*", [(channel, payload)]),
    ):
        found = shown(frame)
        for name, value in (("channel", channel), ("data", payload)):
            if name in found:
                assert found[name].encode() == value
            else:
                assert base64.b64decode(found[f"{name}_base64"]) == value


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(json_values)
def test_any_id_comes_back(tag: Any) -> None:
    """The id of a request is echoed, whatever its JSON type."""
    action = BridgeSession(default_limits()).handle(json.dumps({"op": "ping", "id": tag}))

    assert shown(said(action)) == {"type": "ok", "id": tag}


@given(st.text() | json_values.map(json.dumps) | st.just("[" * 100_000))
def test_no_text_breaks_the_bridge(text: str) -> None:
    """Whatever is sent is understood or refused with a code."""
    action = BridgeSession(default_limits()).handle(text)

    if isinstance(action, Reply):
        assert shown(said(action))["type"] in ("ok", "error")


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ('{"op":"publish","channel":"c"}', "bad_request"),
        ('{"op":"publish","channel":"c","data":"x","data_base64":"eA=="}', "bad_request"),
        ('{"op":"publish","channel":"c","data_base64":"?"}', "bad_request"),
        ('{"op":"publish","channel":"c","data":"\\ud800"}', "bad_request"),
        ('{"op":"publish","channel":7,"data":"x"}', "bad_request"),
        ('{"op":"subscribe","channels":"c"}', "bad_request"),
        ('{"op":"subscribe","channels":[]}', "bad_request"),
        ('{"op":"fly"}', "bad_request"),
        ('{"op":"ping","id":NaN}', "bad_json"),
        ("[]", "bad_json"),
        ('{"op":"publish","channel":"c","data":"12345678901"}', "message_too_large"),
        ('{"op":"subscribe","channels":["12345678901"]}', "name_too_long"),
        ('{"op":"subscribe","channels":["a","b","c"]}', "too_many_subscriptions"),
        ('{"op":"psubscribe","patterns":["a","b"]}', "too_many_subscriptions"),
    ],
)
def test_refusals_have_stable_codes(request_: str, code: str) -> None:
    """Each kind of mistake has its code."""
    limits = default_limits(
        payload_bytes_max=10, channel_bytes_max=10, subscriptions_max=2, patterns_max=1
    )
    action = BridgeSession(limits).handle(request_)

    assert shown(said(action))["code"] == code


def test_bridge_keeps_the_clients_subscriptions() -> None:
    """Only new names are asked for, only held names are given up."""
    session = BridgeSession(default_limits())
    first = session.handle('{"op":"subscribe","channels":["a","b","a"]}')
    second = session.handle('{"op":"subscribe","channels":["b","c"],"id":1}')
    third = session.handle('{"op":"unsubscribe"}')

    assert first == Subscribe(Kind.CHANNEL, (b"a", b"b"), b"", tag=b"")
    assert isinstance(second, Subscribe) and second.names == (b"c",)
    assert third == Unsubscribe(Kind.CHANNEL, (b"a", b"b", b"c"), b"")
    assert session.handle('{"op":"publish","channel":"c","data_base64":"AP8="}') == Publish(
        b"c", b"\x00\xff", b""
    )


def client_bytes(*messages: ws.Event) -> bytes:
    """Return a handshake and messages as a client sends them."""
    client = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
    data = client.send(ws.Request(host="h", target="/", subprotocols=["other", "fanout.v1.json"]))
    server = WebSocketServer(subprotocols=("fanout.v1.json",), message_bytes_max=1000)
    (event,) = server.receive(data)
    assert isinstance(event, Opened) and event == Opened("fanout.v1.json")
    client.receive_data(event.response)
    assert isinstance(next(client.events()), ws.AcceptConnection)
    return data + b"".join(client.send(message) for message in messages)


@given(st.text(max_size=50), st.binary(max_size=50), st.lists(st.integers(0, 600)))
def test_websocket_messages_survive_any_cut(text: str, data: bytes, places: list[int]) -> None:
    """Frames, fragments and characters may be cut anywhere."""
    sent = client_bytes(
        ws.TextMessage(text[:7], message_finished=False),
        ws.TextMessage(text[7:]),
        ws.BytesMessage(data),
        ws.CloseConnection(1000),
    )
    server = WebSocketServer(subprotocols=("fanout.v1.json",), message_bytes_max=1000)
    events = [event for piece in cut(sent, places) for event in server.receive(piece)]

    assert events == [
        Opened("fanout.v1.json"),
        Text(text),
        Binary(data),
        Closed(1000, by_peer=True),
    ]


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x81\x01x", 1002),  # not masked
        (b"\xc1\x80\0\0\0\0", 1002),  # reserved bit
        (b"\x83\x80\0\0\0\0", 1002),  # unknown opcode
        (b"\x80\x80\0\0\0\0", 1002),  # continuation of nothing
        (b"\x81\x81\0\0\0\0\xff", 1007),  # not UTF-8
        (b"\x89\xfe\x00\x7e\0\0\0\0" + b"x" * 126, 1002),  # a ping too long
        (b"\x81\xfe\x03\xe9\0\0\0\0" + b"x" * 1001, 1009),  # a message too long
    ],
)
def test_websocket_errors_close_with_their_code(frame: bytes, code: int) -> None:
    """A client that breaks the protocol gets a Close frame that says how."""
    server = WebSocketServer(subprotocols=(), message_bytes_max=1000)
    server.receive(client_bytes())
    server.outgoing()
    events = server.receive(frame)

    assert events[-1] == Closed(code)
    assert server.outgoing()[2:4] == code.to_bytes(2)
    assert server.receive(frame) == ()


@pytest.mark.parametrize(
    "head",
    [b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", b"x" * 20_000, b"\0\r\n\r\n"],
)
def test_bad_handshakes_are_refused(head: bytes) -> None:
    """What is no websocket handshake gets an HTTP error and the end."""
    server = WebSocketServer(subprotocols=(), message_bytes_max=1000)
    (event,) = server.receive(head)

    assert isinstance(event, Rejected)
    assert server.outgoing().startswith(b"HTTP/1.1 4")


@given(data=st.binary(), open_first=st.booleans())
def test_no_bytes_break_the_websocket(*, data: bytes, open_first: bool) -> None:
    """Any bytes, before or after the handshake, end in values, never in an exception."""
    server = WebSocketServer(subprotocols=(), message_bytes_max=1000)
    if open_first:
        server.receive(client_bytes())
    server.receive(data)


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_frames_of_every_length_are_read_by_a_client(size: int) -> None:
    """The three length forms are right."""
    connection = wsproto.connection.Connection(wsproto.ConnectionType.CLIENT)
    connection.receive_data(text_frame(b"x" * size))

    assert (
        "".join(e.data for e in connection.events() if isinstance(e, ws.TextMessage)) == "x" * size
    )
