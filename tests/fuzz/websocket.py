"""The door for websocket clients: bytes through the handshake, the frames and the bridge."""

from functools import lru_cache
from typing import Any

from fanout.runtime.sidecar.authenticator import Authenticator
from fanout.values.names import Kind
from fanout.values.requests import Action, Publish, Reply, Subscribe, Unsubscribe
from fanout.wire.ws import bridge_frames
from fanout.wire.ws.bridge import ID_BYTES_MAX, SUBPROTOCOL, BridgeSession
from fanout.wire.ws.origins import OriginPolicy
from fanout.wire.ws.websocket import (
    HEAD_BYTES_MAX,
    Binary,
    Closed,
    Event,
    Opened,
    Rejected,
    Text,
    WebSocketServer,
)
from tests.fuzz.given import Given
from tests.fuzz.resp import small_limits
from tests.support.bridge_schema import received
from tests.support.wire.rfc6455 import CLOSE, HANDSHAKE, PONG, TEXT, frame, sent_frames
from tests.support.wire.sidecar import USERS

USERS_ON, OPENED, FRAMES, CALLERS = range(4)
"""Options: clients must log in; the handshake is done; lines are frames; pages are checked."""

MESSAGE_BYTES_MAX = 400
LOCKED_BYTES_MAX = 100
FRAGMENTS_MAX = 5
_FRAME_BYTES = 139
"""The longest header with the longest control frame: wsproto waits for these to be whole."""

_received = lru_cache(4096)(received)


class WebSocketDoor:
    """What `fanout.runtime.doors.ws_connection` does with the bytes of a client, without a network."""

    def __init__(self, *, users: bool, callers: bool) -> None:
        self.said: list[Any] = []
        self.out = b""
        self.over = False
        gate = Authenticator()
        gate._users = USERS if users else None
        self._limits = small_limits()
        self._session = BridgeSession(self._limits, gate)
        self._server = WebSocketServer(
            subprotocols=(SUBPROTOCOL,),
            message_bytes_max=MESSAGE_BYTES_MAX,
            fragments_max=FRAGMENTS_MAX,
            policy=OriginPolicy(frozenset(("https://a",)), frozenset("h")) if callers else None,
        )

    def take(self, piece: bytes) -> None:
        """Read a piece and look that nothing is kept beyond the limits."""
        for event in self._server.events(piece):
            assert not self.over, "something follows the end"
            self._take(event)
        out = self._server.outgoing()
        self.out += out
        assert not self.over or self._server.receive(piece) == ()
        assert not self._server.outgoing()
        self._look_at_memory()

    def end(self) -> tuple[Any, ...]:
        """Close the session; return what was said, by door and by session."""
        self._session.close()
        assert not self._limits.patterns, "patterns of a client that is gone are still counted"
        if self.said and isinstance(self.said[-1], Rejected):
            assert self.out.startswith(b"HTTP/1.1 4%02d " % (self.said[-1].status - 400))
            return (self.said, self.out)
        frames = list(sent_frames(self.out))
        assert all(code in (PONG, CLOSE) for code, _ in frames)
        assert [code for code, _ in frames].count(CLOSE) == self.over
        assert not self.over or frames[-1][0] == CLOSE
        # Of a reason in words only that it is there.
        return (self.said, [(code, data[:2] if code == CLOSE else data) for code, data in frames])

    def _take(self, event: Event) -> None:
        self.said.append(event)
        match event:
            case Opened():
                if event.token:
                    self._session.log_in(event.token)
            case Text(data):
                self._answer(self._session.handle(data))
            case Binary(data):
                self._answer(self._session.handle_binary(data))
            case Closed() | Rejected():
                self.over = True
        locked = self._session.locked
        self._server.limit(LOCKED_BYTES_MAX if locked else MESSAGE_BYTES_MAX)

    def _answer(self, action: Action) -> None:
        frames = replies(action)
        for opcode, payload in sent_frames(frames):
            assert opcode == TEXT
            _received(payload)
        self.said.append((type(action).__name__, frames))
        access = self._session.access
        if isinstance(action, Publish | Subscribe):
            assert not self._session.locked
            assert len(action.tag) <= ID_BYTES_MAX
        if isinstance(action, Publish):
            assert access is None or access.may_publish(action.channel)
        held = self._session._held
        assert len(held[Kind.CHANNEL]) <= self._limits.subscriptions_max
        assert len(held[Kind.PATTERN]) <= self._limits.patterns_max
        if access is not None:
            assert self._session.may_keep(access)

    def _look_at_memory(self) -> None:
        server = self._server
        assert len(server._head) <= HEAD_BYTES_MAX
        assert len(server._message) <= MESSAGE_BYTES_MAX
        if server._opened and not self.over:
            buffer = server._connection.connection._proto._frame_decoder.buffer  # type: ignore[union-attr]
            assert len(buffer) <= _FRAME_BYTES


def replies(action: Action) -> bytes:
    """Return the frames that an action leads to where all goes well."""
    match action:
        case Reply(bytes() as data):
            return data
        case Publish(_, _, tag):
            return bridge_frames.published_frame(tag, 3)
        case Subscribe(_, _, _, tag):
            return bridge_frames.confirmed_frame(tag, ["node-2"])
        case Unsubscribe(_, _, reply):
            return reply
    raise AssertionError(f"{action} is nothing a websocket client can ask for")


def websocket(data: bytes) -> None:
    """Run one case: whatever the bytes, they are served within limits, however they are cut."""
    given = Given.read(data)
    sent = given.body
    if given.option(FRAMES):
        lines = filter(None, sent.split(b"\n"))
        sent = b"".join(
            frame(line[0] & 15, line[1:], fin=line[0] > 127, rsv=line[0] >> 4 & 7) for line in lines
        )
    head = HANDSHAKE if given.option(OPENED) else b""
    ends = []
    for pieces in ([head + sent], [head, *given.pieces(sent)]):
        door = WebSocketDoor(users=given.option(USERS_ON), callers=given.option(CALLERS))
        for piece in pieces:
            door.take(piece)
        ends.append(door.end())
    assert ends[0] == ends[1], "another cut has another meaning"
