"""Both doors with users: nothing before the login, and then what the user may."""

import json
from typing import Any

import pytest

from fanout.runtime.sidecar.authenticator import Authenticator
from fanout.values.requests import Action, Exec, Publish, Reply, Reset, Subscribe
from fanout.wire.resp.session import Session
from fanout.wire.ws.bridge import BridgeSession
from fanout.wire.ws.websocket import Closed, Opened, Text, WebSocketServer
from tests.support.bridge_schema import received
from tests.support.wire.limits import default_limits
from tests.support.wire.rfc6455 import HANDSHAKE, TEXT, frame, sent_frames
from tests.support.wire.sidecar import USERS, LoneSidecar

NOAUTH = b"-NOAUTH Authentication required.\r\n"
NOPERM = b"-NOPERM this user has no permissions to access one of the channels used as arguments\r\n"


def resp_session() -> Session:
    """Return the session of a new client."""
    return Session(1, LoneSidecar(users=USERS), default_limits())


def said(action: Action) -> bytes:
    """Return what a reply says."""
    assert isinstance(action, Reply) and isinstance(action.data, bytes)
    return action.data


@pytest.mark.parametrize(
    "request_",
    [b"PUBLISH p x", b"SUBSCRIBE s", b"PING", b"INFO", b"CLIENT ID", b"MULTI", b"SPUBLISH p x"],
)
def test_before_the_login_nothing_is_done(request_: bytes) -> None:
    """Not even what would be harmless; unknown commands are unknown, as to Redis."""
    session = resp_session()
    assert said(session.handle(request_.split())) == NOAUTH
    assert said(session.handle([b"NOSUCH"])).startswith(b"-ERR unknown command")
    assert said(session.handle([b"HELLO", b"3"])).startswith(b"-NOAUTH HELLO must be called")
    assert session.locked


@pytest.mark.parametrize(
    ("request_", "fine"),
    [
        ([b"AUTH", b"u", b"s"], True),
        ([b"AUTH", b"d"], True),
        ([b"HELLO", b"2", b"AUTH", b"u", b"s"], True),
        ([b"AUTH", b"u", b"d"], False),
        ([b"AUTH", b"s"], False),
        ([b"AUTH", b"nobody", b"s"], False),
        ([b"AUTH", b"\xff", b"s"], False),
        ([b"HELLO", b"3", b"AUTH", b"u", b"x"], False),
    ],
)
def test_the_login(request_: list[bytes], fine: bool) -> None:  # noqa: FBT001
    """By AUTH or HELLO; one that fails leaves things as they were."""
    session = resp_session()
    answer = session.handle(request_)

    assert session.locked is not fine
    if not fine:
        assert said(answer).startswith(b"-WRONGPASS ")


def test_a_user_may_what_is_listed() -> None:
    """At every verb, in a transaction too, which a refusal spoils as in Redis."""
    session = resp_session()
    session.handle([b"HELLO", b"3", b"AUTH", b"u", b"s"])
    assert session.handle([b"PUBLISH", b"p1", b"x"]) == Publish(b"p1", b"x")
    for refused in (
        [b"PUBLISH", b"s1", b"x"], [b"publish", b"s1", b"x"], [b"SPUBLISH", b"s1", b"x"],
        [b"SUBSCRIBE", b"s1", b"p1"], [b"SSUBSCRIBE", b"p1"], [b"PSUBSCRIBE", b"s1"],
    ):  # fmt: skip
        assert said(session.handle(refused)) == NOPERM
    assert isinstance(session.handle([b"SUBSCRIBE", b"s1"]), Subscribe)
    assert isinstance(session.handle([b"PSUBSCRIBE", b"s*"]), Subscribe)
    session.handle([b"MULTI"])
    assert said(session.handle([b"PUBLISH", b"s1", b"x"])) == NOPERM
    assert said(session.handle([b"EXEC"])).startswith(b"-EXECABORT")


def test_rights_are_looked_at_again_when_a_transaction_runs() -> None:
    """They may have changed since its requests were queued, as Redis has it."""
    session = resp_session()
    session.handle([b"AUTH", b"u", b"s"])
    for line in (b"MULTI", b"SUBSCRIBE s1", b"AUTH d", b"SUBSCRIBE s2", b"PUBLISH p x"):
        session.handle(line.split())
    action = session.handle([b"EXEC"])
    assert isinstance(action, Exec)
    first, _, second, third = action.actions

    assert isinstance(first, Subscribe)
    assert said(second).startswith(b"-NOPERM ACLs rules changed")
    assert third == Publish(b"p", b"x")


def test_reset_logs_out() -> None:
    """As Redis does; the client has to log in again."""
    session = resp_session()
    session.handle([b"AUTH", b"u", b"s"])
    assert isinstance(session.handle([b"RESET"]), Reset)
    assert session.locked
    assert said(session.handle([b"PUBLISH", b"p1", b"x"])) == NOAUTH


def bridge_session() -> tuple[BridgeSession, Authenticator]:
    """Return the session of a new websocket client."""
    gate = Authenticator()
    gate._users = USERS
    return BridgeSession(default_limits(), gate=gate), gate


def ask(session: BridgeSession, **request: Any) -> Any:
    """Return the error code that a request gets, or the action."""
    action = session.handle(json.dumps(request))
    if not isinstance(action, Reply):
        return action
    assert isinstance(action.data, bytes)
    answer = received(next(payload for _, payload in sent_frames(action.data)))
    return answer.get("code", answer["type"])


def test_the_websocket_login() -> None:
    """By token alone; only a ping is answered before."""
    session, _ = bridge_session()
    publish = {"op": "publish", "channel": "p", "data": "x"}
    assert ask(session, **publish) == "unauthenticated"
    assert ask(session, op="subscribe", channels=["s"]) == "unauthenticated"
    assert isinstance(session.handle_binary(b"\x01\x00\x01px"), Reply)
    # Who waits for the answer to a number hears why there is none.
    [(_, answer)] = sent_frames(said(session.handle_binary(b"\x02\x00\x00\x00\x07\x00\x01px")))
    assert json.loads(answer)["id"] == 7
    assert ask(session, op="ping") == "ok"
    assert ask(session, op="auth", token="x", id=1) == "unauthenticated"
    assert ask(session, op="auth", id=1) == "bad_request"
    assert ask(session, op="auth", token="s", id=1) == "ok"
    assert isinstance(ask(session, **publish), Publish)
    assert isinstance(session.handle_binary(b"\x01\x00\x01px"), Publish)
    assert ask(session, op="publish", channel="s", data="") == "forbidden"
    assert ask(session, op="subscribe", channels=["s", "p"]) == "forbidden"
    assert ask(session, op="psubscribe", patterns=["s?"]) == "forbidden"
    assert isinstance(ask(session, op="psubscribe", patterns=["s*"]), Subscribe)


def test_without_users_a_token_is_taken_and_means_nothing() -> None:
    """A service need not know whether its sidecar has users."""
    session = BridgeSession(default_limits(), gate=Authenticator())
    assert ask(session, op="auth", token="x", id=1) == "ok"
    assert isinstance(ask(session, op="subscribe", channels=["any"]), Subscribe)


@pytest.mark.parametrize(
    ("header", "token"),
    [
        (b"Authorization: Bearer s3cret\r\n", b"s3cret"),
        (b"authorization: bearer s3cret\r\n", b"s3cret"),
        (b"Authorization: Basic s3cret\r\n", b""),
        (b"Sec-WebSocket-Protocol: fanout.v1.json, fanout.token.czNjcmV0\r\n", b"s3cret"),
        (b"Sec-WebSocket-Protocol: fanout.token.!!!\r\n", b""),
        (b"", b""),
    ],
)
def test_the_token_of_a_handshake(header: bytes, token: bytes) -> None:
    """In a header, or as browsers can; it is never chosen as the protocol, nor shown."""
    server = WebSocketServer(subprotocols=("fanout.v1.json",), message_bytes_max=100)
    (event,) = server.receive(HANDSHAKE.replace(b"Host: h\r\n", b"Host: h\r\n" + header))

    assert isinstance(event, Opened)
    assert event.token == token
    assert b"token" not in event.response
    assert "s3cret" not in repr(event)


@pytest.mark.parametrize("token", ["s", "x"])
def test_the_limit_of_a_locked_client_ends_with_the_login(token: str) -> None:
    """Also for a message that came in the same read; and before the login, not a read later."""
    for head in (HANDSHAKE, b""):
        session, _ = bridge_session()
        server = WebSocketServer(subprotocols=(), message_bytes_max=1000)
        sent = frame(TEXT, json.dumps({"op": "auth", "token": token}).encode())
        if not head:
            server.receive(HANDSHAKE)
            server.limit(100)
        events = []
        for event in server.events(head + sent + frame(TEXT, b"x" * 500)):
            if isinstance(event, Text):
                session.handle(event.data)
            server.limit(100 if session.locked else 1000)
            events.append(event)

        assert events[-1] == (Text("x" * 500) if token == "s" else Closed(1009))
