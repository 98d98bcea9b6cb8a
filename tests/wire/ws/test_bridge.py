"""The websocket protocol keeps to its schema and its page, in both directions."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.values.names import RESERVED_PREFIX, Kind
from fanout.values.requests import Publish, Ready, Reply, Subscribe, Unsubscribe
from fanout.wire.ws import bridge, bridge_frames
from fanout.wire.ws.bridge import BridgeSession
from tests.support.bridge_schema import RECEIVED, SCHEMA, SENT, received, sent
from tests.support.wire.limits import default_limits
from tests.support.wire.rfc6455 import TEXT, sent_frames

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "websocket.md").read_text()


def shown(frames: Ready) -> list[Any]:
    """Return the JSON of text frames, each checked against the schema."""
    assert isinstance(frames, bytes)
    found = []
    for opcode, payload in sent_frames(frames):
        assert opcode == TEXT
        found.append(received(payload))
    return found


def refusal(session: BridgeSession, request: str | bytes) -> Any:
    """Return the error that a request is answered with."""
    handle = session.handle_binary if isinstance(request, bytes) else session.handle
    action = handle(request)  # type: ignore[arg-type]
    assert isinstance(action, Reply)
    (reply,) = shown(action.data)
    assert reply["type"] == "error"
    return reply


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=5)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)
names = st.text(max_size=5) | st.sampled_from(["c", "__fanout:x", "x__fanout:"])
base64s = st.binary(max_size=6).map(lambda data: base64.b64encode(data).decode())
fields = st.fixed_dictionaries(
    {"op": st.sampled_from(SCHEMA["$defs"]["sent"]["properties"]["op"]["enum"])},
    optional={
        "channel": names | json_values,
        "channels": st.lists(names, min_size=1, max_size=3) | json_values,
        "patterns": st.lists(names, min_size=1, max_size=3) | json_values,
        "data": st.text(max_size=5) | st.integers(),
        "data_base64": base64s | st.integers(),
        "id": st.integers(0, 9),
        "more": json_values,
    },
)


@given(fields | json_values)
def test_the_schema_tells_which_requests_are_understood(request_: Any) -> None:
    """What fits it is done, what does not is refused, and the other way round."""
    action = BridgeSession(default_limits()).handle(json.dumps(request_))

    refused = isinstance(action, Reply) and shown(action.data)[0]["type"] == "error"
    assert refused is not SENT.is_valid(request_)


@given(fields)
def test_whatever_is_done_is_answered_by_the_schema(request_: Any) -> None:
    """Every reply that an action leads to fits."""
    action = BridgeSession(default_limits()).handle(json.dumps(request_))
    match action:
        case Reply(data):
            frames = shown(data() if callable(data) else data)
        case Publish(_, _, tag):
            frames = shown(bridge_frames.published_frame(tag, 3))
            assert shown(bridge_frames.error_frame(tag, "outcome_unknown", "lost"))
        case Subscribe():
            frames = shown(bridge_frames.confirmed_frame(action.tag, ["node-2"]))
            assert not frames or frames[0]["degraded"] == ["node-2"]
        case Unsubscribe(_, _, reply):
            frames = shown(reply)
        case _:
            pytest.fail(f"{action} is nothing a websocket client can ask for")
    answered = "id" in request_ or request_["op"] == "ping" or isinstance(action, Reply)
    assert [frame["id"] for frame in frames] == ([request_.get("id")] if answered else [])


def test_events_fit_the_schema_and_nothing_else_does() -> None:
    """What a sidecar says of itself."""
    limits = dict.fromkeys(SCHEMA["$defs"]["hello"]["properties"]["limits"]["required"], 1)
    frames = bridge_frames.hello_frame("one", 1, limits) + bridge_frames.closing_frame("shutdown")
    for reason in bridge.GAP_REASONS:
        frames += bridge_frames.gap_frame("node-1", reason)

    assert [frame["type"] for frame in shown(frames)] == ["hello", "closing", *["gap"] * 3]
    for wrong in ({}, {"type": "gap", "node": "n", "reason": "?"}, {"type": "ok"}, {"op": "ping"}):
        assert not RECEIVED.is_valid(wrong)


open_channels = st.binary(max_size=12).filter(lambda name: not name.startswith(RESERVED_PREFIX))


@given(st.sampled_from([1, 2]), st.integers(0, 2**32 - 1), open_channels, st.binary(max_size=9))
def test_binary_frames_publish_bytes(op: int, number: int, channel: bytes, data: bytes) -> None:
    """Channel and payload are taken as they are; the number comes back as the id."""
    head = b"\x01" if op == 1 else b"\x02" + number.to_bytes(4)
    action = BridgeSession(default_limits()).handle_binary(
        head + len(channel).to_bytes(2) + channel + data
    )

    assert action == Publish(channel, data, b"" if op == 1 else b"%d" % number)
    replies = shown(bridge_frames.published_frame(action.tag, 2))
    assert replies == ([] if op == 1 else [{"type": "ok", "id": number, "receivers": 2}])


@pytest.mark.parametrize(
    ("frame", "code", "id_"),
    [
        (b"", "bad_binary", None),
        (b"\x00", "bad_binary", None),
        (b"\x03\x00\x01c", "bad_binary", None),
        (b"\x01\x00", "bad_binary", None),
        (b"\x01\x00\x02c", "bad_binary", None),
        (b"\x02\x00\x00\x00\x07\x00", "bad_binary", None),
        (b"\x02\x00\x00\x00\x07\x00\x02c", "bad_binary", 7),
        (b"\x02\x00\x00\x00\x07\x00\x0b__fanout:xy", "reserved_channel", 7),
        (b"\x01\x00\x0b" + b"c" * 11, "name_too_long", None),
        (b"\x01\x00\x01c" + b"x" * 11, "message_too_large", None),
    ],
)
def test_binary_frames_that_are_refused(frame: bytes, code: str, id_: int | None) -> None:
    """Always with an error, which has the number if that was readable."""
    reply = refusal(
        BridgeSession(default_limits(payload_bytes_max=10, channel_bytes_max=10)), frame
    )

    assert (reply["code"], reply["id"]) == (code, id_)


@given(st.binary(max_size=40))
def test_no_binary_frame_breaks_the_bridge(data: bytes) -> None:
    """It publishes or is refused."""
    action = BridgeSession(default_limits()).handle_binary(data)

    assert isinstance(action, Publish) or shown(action.data)[0]["code"].startswith(  # type: ignore[union-attr]
        ("bad_binary", "reserved")
    )


@pytest.mark.parametrize(
    "id_",
    ["1e999", "-1e999", '"%s"' % ("x" * 1023), "[" * 1100 + "]" * 1100, "[" * 300_000, "NaN"],
)
def test_ids_that_cannot_be_answered_are_refused_at_once(id_: str) -> None:
    """Not when the answer is written, where it is too late for an error."""
    session = BridgeSession(default_limits())
    reply = refusal(session, f'{{"op": "subscribe", "channels": ["c"], "id": {id_}}}')

    assert reply["id"] is None
    assert session.handle('{"op": "unsubscribe"}') == Unsubscribe(Kind.CHANNEL, (), b"")


@pytest.mark.parametrize("id_", ["null", "1.5", "[1,[2]]", '{"a":{}}', '""', "false", '"\\ud800"'])
def test_ids_of_any_type_come_back_as_they_were(id_: str) -> None:
    """Byte for byte, when written compactly."""
    action = BridgeSession(default_limits()).handle(
        f'{{"op": "publish", "channel": "c", "data": "", "id": {id_}}}'
    )

    assert isinstance(action, Publish)
    assert b'"id":%b,' % id_.encode() in bridge_frames.published_frame(action.tag, 0)


def table(head: str) -> dict[str, list[str]]:
    """Return the rows of the page's table with this head: first column -> the others."""
    lines = PAGE[PAGE.index(head) :].split("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]
    return {first: rest for first, *rest in rows}


def test_the_page_has_the_tables_of_the_code() -> None:
    """Error codes, gap reasons and close codes, with their meaning."""
    errors = {code: [meaning] for code, meaning in bridge.ERROR_CODES.items()}
    gaps = {reason: [meaning] for reason, meaning in bridge.GAP_REASONS.items()}

    assert table("| code | meaning |") == errors
    assert table("| reason | meaning |") == gaps
    codes = {row[0]: int(code) for code, row in table("| close code | name |").items()}
    assert codes == bridge.CLOSE_CODES


def test_the_schema_has_the_tables_of_the_code() -> None:
    """A code that the schema does not know would fail only when it first occurs."""
    definitions = SCHEMA["$defs"]

    assert definitions["error"]["properties"]["code"]["enum"] == list(bridge.ERROR_CODES)
    assert definitions["gap"]["properties"]["reason"]["enum"] == list(bridge.GAP_REASONS)
    assert definitions["names"]["maxItems"] == bridge.NAMES_MAX
    assert definitions["hello"]["properties"]["protocol"]["const"] == bridge_frames.VERSION


def test_the_examples_of_the_page_are_true() -> None:
    """Every request and frame shown there fits the schema."""
    shown_ = [
        json.loads(found) for found in re.findall(r'\{"(?:op|type)"[^…`]*?\}(?=`|\n```)', PAGE)
    ]

    assert len([sent(each) for each in shown_ if "op" in each]) == 7
    assert len([received(json.dumps(each)) for each in shown_ if "type" in each]) >= 4
