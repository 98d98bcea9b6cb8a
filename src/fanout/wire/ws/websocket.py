"""The server side of one websocket connection, based on wsproto; no I/O.

wsproto checks frames; this adds limits on the handshake and on a message over all its fragments,
and the Close frame after a protocol error.
"""

import base64
import binascii
import contextlib
from collections.abc import Iterator

import attrs
import wsproto
from wsproto import events as ws
from wsproto.connection import ConnectionState
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import RemoteProtocolError

from fanout.wire.ws.frames import FrameMeter, close_frame, whole_text
from fanout.wire.ws.origins import OriginPolicy

HEAD_BYTES_MAX = 16_384
"""The largest request head of a handshake."""
TOKEN_SUBPROTOCOL = "fanout.token."  # noqa: S105 - the name of the form, not a token
"""Prefix of a subprotocol with a token as base64url; offered with the real one, never chosen."""

FRAGMENTS_MAX = 1024
"""Frames of one message, including empty ones."""

_KEY_BYTES = 16
_UPGRADE_REQUIRED = 426


@attrs.frozen
class Opened:
    """The handshake succeeded; `response` must be sent before anything else."""

    subprotocol: str | None
    response: bytes = attrs.field(default=b"", eq=False)
    token: bytes = attrs.field(default=b"", repr=False)
    """The client's token, from a header or a subprotocol; empty if there is none."""


@attrs.frozen
class Rejected:
    """The handshake was refused; the connection must be closed."""

    status: int


@attrs.frozen
class Text:
    """A whole text message."""

    data: str


@attrs.frozen
class Binary:
    """A whole binary message."""

    data: bytes


@attrs.frozen
class Pong:
    """The client answered a ping."""


@attrs.frozen
class Closed:
    """The connection has ended; the outgoing bytes are the last and end with a Close frame."""

    code: int
    by_peer: bool = False
    """Whether the client closed: TCP may then be closed at once. Otherwise it has yet to read why."""


Event = Opened | Rejected | Text | Binary | Pong | Closed


class WebSocketServer:
    """One connection. After `Closed` or `Rejected` it ignores further bytes."""

    def __init__(
        self,
        *,
        subprotocols: tuple[str, ...],
        message_bytes_max: int,
        fragments_max: int = FRAGMENTS_MAX,
        policy: OriginPolicy | None = None,
    ) -> None:
        self._connection = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
        self._subprotocols = subprotocols
        self._policy = policy
        self._meter = FrameMeter(message_bytes_max=message_bytes_max, fragments_max=fragments_max)
        self._opened = False
        self._over = False
        self._head = bytearray()
        self._out = bytearray()
        self._message = bytearray()  # the received part of a message

    def receive(self, data: bytes) -> tuple[Event, ...]:
        """Decode bytes and return the events."""
        return tuple(self.events(data))

    def events(self, data: bytes) -> Iterator[Event]:
        """Decode bytes and yield the events; exhaust it before you pass more bytes.

        A call at an event, such as `limit`, applies to the bytes after it.
        """
        if self._over:
            return
        if not self._opened:
            found, data = self._handshake(data)
            yield from found
        at = 0
        while at < len(data) and not self._over:
            if self._meter.idle and (whole := whole_text(data, at, self._meter.message_bytes_max)):
                text, at = whole
                yield Text(text)
                continue
            start, (at, refusal) = at, self._meter.measure(data, at)
            self._connection.receive_data(data[start:at])
            for event in self._connection.events():
                yield from self._take(event)
                if self._over:
                    return
            if refusal:
                yield self._fail(CloseReason.MESSAGE_TOO_BIG, refusal)

    def outgoing(self) -> bytes:
        """Return the bytes to send, and forget them."""
        out, self._out = self._out, bytearray()
        return bytes(out)

    def ping(self) -> bytes:
        """Return a ping."""
        return self._connection.send(ws.Ping())

    def _handshake(self, data: bytes) -> tuple[tuple[Event, ...], bytes]:
        """Collect the request head and answer it; return the bytes that follow it."""
        searched = max(0, len(self._head) - 3)
        self._head += data
        line = self._head.find(b"\r\n", 0, HEAD_BYTES_MAX)
        if line >= 0 and not self._head[:line].endswith(b" HTTP/1.1"):
            return self._reject(400, "this is a websocket endpoint; use HTTP/1.1"), b""
        end = self._head.find(b"\r\n\r\n", searched)
        size = len(self._head) if end < 0 else end + 4
        if size > HEAD_BYTES_MAX:
            return self._reject(431, "the request head is too large"), b""
        if end < 0:
            return (), b""
        head, rest = bytes(self._head[:size]), bytes(self._head[size:])
        self._head.clear()
        return self._open(head), rest

    def _open(self, head: bytes) -> tuple[Event, ...]:
        try:
            self._connection.receive_data(head)
            request = next(self._connection.events(), None)
        except RemoteProtocolError as error:
            hint = error.event_hint
            status = hint.status_code if isinstance(hint, ws.RejectConnection) else 400
            return self._reject(status, f"this is a websocket endpoint: {error}")
        except UnicodeError:  # wsproto does not catch errors when it decodes some headers
            return self._reject(400, "a header holds bytes that do not belong there")
        if not isinstance(request, ws.Request):
            return self._reject(400, "the request head is no request")
        return self._accept(request)

    def _accept(self, request: ws.Request) -> tuple[Event, ...]:
        names = [bytes(name) for name, _ in request.extra_headers]
        keys = [value for name, value in request.extra_headers if name == b"sec-websocket-key"]
        if len(keys) != 1 or not _is_key(keys[0]):
            return self._reject(400, "Sec-WebSocket-Key must be 16 bytes as base64, once")
        if b"content-length" in names or b"transfer-encoding" in names:
            return self._reject(400, "a handshake has no body")
        origins = [
            value.decode("latin-1") for name, value in request.extra_headers if name == b"origin"
        ]
        if self._policy is not None and (why := self._policy.refusal(request.host, origins)):
            return self._reject(403, why)
        offered = list(request.subprotocols)
        chosen = next((name for name in self._subprotocols if name in offered), None)
        response = self._connection.send(ws.AcceptConnection(subprotocol=chosen))
        self._opened = True
        return (Opened(chosen, response, _token(request, offered)),)

    def limit(self, message_bytes_max: int) -> None:
        """Set the limit of messages from now on."""
        self._meter.message_bytes_max = message_bytes_max

    def _take(self, event: ws.Event) -> tuple[Event, ...]:
        match event:
            case ws.TextMessage():
                return self._text(event)
            case ws.BytesMessage():
                return self._bytes(event)
            case ws.Ping():
                self._out += self._connection.send(event.response())
            case ws.Pong():
                return (Pong(),)
            case ws.CloseConnection():
                if self._connection.state is not ConnectionState.REMOTE_CLOSING:
                    return (self._fail(int(event.code), event.reason or ""),)
                self._over = True
                self._out += self._connection.send(event.response())
                return (Closed(int(event.code), by_peer=True),)
        return ()

    def _text(self, event: ws.TextMessage) -> tuple[Event, ...]:
        if event.message_finished and not self._message:
            return (Text(event.data),)
        self._message += event.data.encode()
        if not event.message_finished:
            return ()
        whole = self._message.decode()
        self._message = bytearray()
        return (Text(whole),)

    def _bytes(self, event: ws.BytesMessage) -> tuple[Event, ...]:
        if event.message_finished and not self._message:
            return (Binary(bytes(event.data)),)
        self._message += event.data
        if not event.message_finished:
            return ()
        whole, self._message = bytes(self._message), bytearray()
        return (Binary(whole),)

    def _fail(self, code: int, reason: str) -> Closed:
        self._over = True
        self._message = bytearray()
        self._out += close_frame(code, reason)
        return Closed(code)

    def _reject(self, status: int, reason: str) -> tuple[Event, ...]:
        self._over = True
        self._head.clear()
        body = reason.encode() + b"\n"
        upgrade = b""
        if status == _UPGRADE_REQUIRED:
            upgrade = b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        self._out += (
            b"HTTP/1.1 %d Refused\r\nContent-Type: text/plain\r\nConnection: close\r\n"
            b"%bContent-Length: %d\r\n\r\n%b" % (status, upgrade, len(body), body)
        )
        return (Rejected(status),)


def _token(request: ws.Request, offered: list[str]) -> bytes:
    """Return the token of a handshake. Browsers cannot send the header, so they may offer it."""
    for name, value in request.extra_headers:
        if name == b"authorization" and bytes(value)[:7].lower() == b"bearer ":
            return bytes(value)[7:].strip()
    for subprotocol in offered:
        if subprotocol.startswith(TOKEN_SUBPROTOCOL):
            encoded = subprotocol.removeprefix(TOKEN_SUBPROTOCOL)
            with contextlib.suppress(ValueError):
                return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    return b""


def _is_key(value: bytes) -> bool:
    try:
        return len(base64.b64decode(value, validate=True)) == _KEY_BYTES
    except binascii.Error:
        return False
