"""Builds of different ages in one fleet: what 0.1 wrote is read, and 0.1 can read what is written.

versions.json holds what build 0.1.0 wrote. It is never changed: a later build that wants to say
more adds fields, and says anything else in a new kind of message, which 0.1 passes over.
"""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fanout.core import users
from fanout.values.control import (
    BarrierReached,
    CensusAnswer,
    CensusQuestion,
    Deaf,
    End,
    OrderBarrier,
)
from fanout.values.names import (
    CENSUS_CHANNEL,
    CENSUS_INBOX_PREFIX,
    CONTROL_CHANNEL,
    IDENTITY_KEY,
    INBOX_PREFIX,
    PRESENCE_CHANNEL,
    SHARD_PREFIX,
    Endpoint,
    NodeId,
    SidecarId,
    Space,
)
from fanout.values.records import (
    DrainRequest,
    FenceMode,
    Identity,
    NodeRecord,
    NodeState,
    SidecarRecord,
)
from fanout.values.requests import Publish, Question, Reply, Subscribe, Unsubscribe
from fanout.wire import census, records
from fanout.wire.ws import bridge_client, bridge_frames
from fanout.wire.ws.bridge import BridgeSession
from fanout.wire.ws.bridge_client import Gap, Message
from tests.support.wire.limits import default_limits

WRITTEN: dict[str, Any] = json.loads(Path(__file__).with_name("versions.json").read_text())

NODE, SIDECAR = NodeId("node-1"), SidecarId("host-4711")
QUESTION = Question(Space.CHANNELS, (b"news", b"\xff"), b"n*")

Codec = tuple[Any, Callable[[Any], bytes], Callable[[bytes], Any]]

CODECS: dict[str, Codec] = {
    "node": (
        NodeRecord(
            cluster="default",
            node=NODE,
            incarnation=1764000000000,
            version=7,
            owner="1764000000000-5eed",
            state=NodeState.ACTIVE,
            endpoint=Endpoint("10.0.0.11", 6379),
            run_id="0123456789abcdef0123456789abcdef01234567",
            lease_seconds=10.0,
            fence=FenceMode.ACL,
        ),
        records.encode_record,
        records.decode_node,
    ),
    "sidecar": (
        SidecarRecord(
            cluster="default",
            sidecar=SIDECAR,
            incarnation=1764000000001,
            version=3,
            lease_seconds=10.0,
            covered={NODE: 1764000000000},
            stopped={NodeId("node-2"): 5},
            deaf={NodeId("node-3"): 6},
        ),
        records.encode_record,
        records.decode_sidecar,
    ),
    "identity": (
        Identity(cluster="default", node=NODE, incarnation=1764000000000, run_id="0123"),
        records.encode_record,
        records.decode_identity,
    ),
    "drain": (
        DrainRequest(cluster="default", node=NODE, incarnation=1764000000000, force=True),
        records.encode_record,
        records.decode_drain,
    ),
    "end": (End(NODE, 1764000000000), records.encode_control, records.decode_control),
    "fence": (OrderBarrier(SIDECAR, 9), records.encode_control, records.decode_control),
    "fence_received": (BarrierReached(9), records.encode_control, records.decode_control),
    "deaf": (Deaf(SIDECAR, {NODE: 4}), records.encode_control, records.decode_control),
    "census_question": (
        CensusQuestion(SIDECAR, 2, QUESTION),
        census.encode_question,
        census.decode_question,
    ),
    "census_answer": (
        CensusAnswer(SIDECAR, 2, 0, 1, {b"news": 3, b"\xff": 1}),
        lambda answer: census.encode_answer(answer.sidecar, answer.number, answer.counts)[0],
        census.decode_answer,
    ),
}

NEWER = {"added_later": {"nested": [1, None]}, "zone": "eu"}


def test_everything_written_down_is_tested() -> None:
    """And everything tested is written down."""
    assert WRITTEN["messages"].keys() == CODECS.keys()


@pytest.mark.parametrize("name", CODECS)
def test_what_the_older_build_wrote_is_read(name: str) -> None:
    """With the meaning it had."""
    value, _, decode = CODECS[name]

    assert decode(json.dumps(WRITTEN["messages"][name]).encode()) == value


@pytest.mark.parametrize("name", CODECS)
def test_the_older_build_reads_what_is_written(name: str) -> None:
    """Each of its fields is still there, with the value it had; more may be added."""
    value, encode, _ = CODECS[name]
    now = json.loads(encode(value))

    assert {**now, **WRITTEN["messages"][name]} == now


@pytest.mark.parametrize("name", CODECS)
def test_what_a_newer_build_adds_is_passed_over(name: str) -> None:
    """Fields of its own change nothing; those of a record are kept and written back."""
    value, encode, decode = CODECS[name]
    read = decode(json.dumps({**WRITTEN["messages"][name], **NEWER}).encode())

    if hasattr(value, "extra"):
        assert json.loads(encode(read)) == {**json.loads(encode(value)), **NEWER}
    else:
        assert read == value


@pytest.mark.parametrize("kind", ["resharded", "end2", ""])
def test_a_new_kind_of_control_message_is_passed_over(kind: str) -> None:
    """Whatever it says."""
    message = {"type": kind, "node": "node-1", "incarnation": 1}

    assert records.decode_control(json.dumps(message).encode()) is None


def test_all_look_in_the_same_places() -> None:
    """Keys and channels, and the passwords that follow from the fleet's secret."""
    places = {
        "node_key": records.NODE.key("default", "node-1"),
        "sidecar_key": records.SIDECAR.key("default", "host-4711"),
        "drain_key": records.drain_key("default", "node-1"),
        "index_key": records.NODE.index_key("default"),
        "hint_channel": records.hint_channel("default"),
        "identity_key": IDENTITY_KEY.decode(),
        "presence_channel": PRESENCE_CHANNEL.decode(),
        "control_channel": CONTROL_CHANNEL.decode(),
        "inbox_prefix": INBOX_PREFIX.decode(),
        "census_channel": CENSUS_CHANNEL.decode(),
        "census_inbox_prefix": CENSUS_INBOX_PREFIX.decode(),
        "shard_prefix": SHARD_PREFIX.decode(),
        "data_password": users.password("canary", "default", NODE, users.DATA_USER),
        "ctl_password": users.password("canary", "default", NODE, users.CTL_USER),
    }

    assert places == WRITTEN["places"]


ACTIONS = {
    "subscribe": Subscribe,
    "psubscribe": Subscribe,
    "unsubscribe": Unsubscribe,
    "punsubscribe": Unsubscribe,
    "publish": Publish,
    "publish_bytes": Publish,
    "auth": Reply,
    "ping": Reply,
}


def payload(frame: bytes) -> dict[str, Any]:
    """Return what a short text frame of the sidecar holds."""
    decoded: dict[str, Any] = json.loads(frame[frame.index(b"{") :])
    return decoded


@pytest.mark.parametrize("name", ACTIONS)
def test_an_older_clients_request_is_served(name: str) -> None:
    """With fields that only a newer sidecar would know, too."""
    request = WRITTEN["requests"][name]
    for added in ({}, NEWER):
        action = BridgeSession(default_limits()).handle(json.dumps({**request, **added}))

        assert isinstance(action, ACTIONS[name])
        if isinstance(action, Reply):
            assert isinstance(action.data, bytes)
            assert payload(action.data) == {"type": "ok", "id": request["id"]}


def test_an_older_clients_binary_publish_is_served() -> None:
    """Without a number and with one."""
    for text, tag in zip(WRITTEN["binary_requests"], (b"", b"258"), strict=True):
        action = BridgeSession(default_limits()).handle_binary(base64.b64decode(text))

        assert action == Publish(b"news", b"\x00\xff", tag)


FRAMES: dict[str, bytes] = {
    "hello": bridge_frames.hello_frame("host-4711", 7, WRITTEN["frames"]["hello"]["limits"]),
    "gap": bridge_frames.gap_frame("node-1", "lost"),
    "closing": bridge_frames.closing_frame("shutdown"),
    "ok": bridge_frames.confirmed_frame(b"1", ()),
    "degraded": bridge_frames.confirmed_frame(b"1", ["node-1"]),
    "published": bridge_frames.published_frame(b"1", 2),
    "error": bridge_frames.error_frame(b"1", "no_node", "none"),
    "message": bridge_frames.message_frames(b"news", [b"hello"]),
    "message_bytes": bridge_frames.message_frames(b"news", [b"\xff"]),
    "pmessage": bridge_frames.pmessage_frames(b"n*", [(b"news", b"hello")]),
}


@pytest.mark.parametrize("name", FRAMES)
def test_an_older_client_reads_every_frame(name: str) -> None:
    """Each of the fields that it knows is there, with the value it had."""
    now = payload(FRAMES[name])

    assert {**now, **WRITTEN["frames"][name]} == now


EVENTS = {
    "gap": Gap("node-1", "lost"),
    "message": Message("news", b"hello"),
    "message_bytes": Message("news", b"\xff"),
    "pmessage": Message("news", b"hello", "n*"),
}


@pytest.mark.parametrize("name", FRAMES)
def test_our_client_reads_an_older_and_a_newer_sidecar(name: str) -> None:
    """What it does not know it passes over: fields, and whole kinds of frames."""
    frame = WRITTEN["frames"][name]
    for added in ({}, NEWER):
        read = bridge_client.decode(json.dumps({**frame, **added}))

        assert bridge_client.event(read) == EVENTS.get(name)
    assert bridge_client.event({**frame, "type": "later"}) is None
    if name == "hello":
        assert bridge_client.limits({**frame, **NEWER}).names == frame["limits"]["names"]
