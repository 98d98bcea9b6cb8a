"""The server side of one websocket connection, on wsproto; no IO.

wsproto checks frames; added here are the bounds on the handshake and on a message over all its
fragments, the Close frame that a protocol error deserves, and frames encoded once for many
clients: what a server sends is unmasked, so one frame serves all.
"""

import struct

import attrs
import wsproto
from wsproto import events as ws
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

HEAD_BYTES_MAX = 16_384
FRAGMENTS_MAX = 1024
_REASON_BYTES_MAX = 123
_LENGTH_7_MAX = 125
_LENGTH_16_MAX = 65_535


@attrs.frozen
class Opened:
    """The handshake is done."""

    subprotocol: str | None


@attrs.frozen
class Rejected:
    """The handshake was refused; the connection is to be closed."""

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
    """The connection is over; what is outgoing is the last."""

    code: int


Event = Opened | Rejected | Text | Binary | Pong | Closed


def text_frame(data: bytes) -> bytes:
    """Return one whole unmasked text frame; `data` must be UTF-8."""
    return _frame(0x81, data)


def close_frame(code: int, reason: str) -> bytes:
    """Return a Close frame; the reason is cut to what fits."""
    text = reason.encode()[:_REASON_BYTES_MAX].decode("utf-8", "ignore").encode()
    return _frame(0x88, struct.pack("!H", code) + text)


def _frame(first: int, data: bytes) -> bytes:
    length = len(data)
    if length <= _LENGTH_7_MAX:
        return bytes((first, length)) + data
    if length <= _LENGTH_16_MAX:
        return struct.pack("!BBH", first, 126, length) + data
    return struct.pack("!BBQ", first, 127, length) + data


class WebSocketServer:
    """One connection. After `Closed` or `Rejected` it ignores what comes."""

    def __init__(self, *, subprotocols: tuple[str, ...], message_bytes_max: int) -> None:
        self._connection = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
        self._subprotocols = subprotocols
        self._message_bytes_max = message_bytes_max
        self._opened = False
        self._over = False
        self._head = b""
        self._out = b""
        self._parts: list[str | bytes] = []
        self._size = 0

    def receive(self, data: bytes) -> tuple[Event, ...]:
        """Take bytes and return what they mean."""
        if self._over:
            return ()
        return self._feed(data) if self._opened else self._handshake(data)

    def _handshake(self, data: bytes) -> tuple[Event, ...]:
        """Collect the request head and answer it; frames may follow it at once."""
        self._head += data
        end = self._head.find(b"\r\n\r\n")
        if end < 0 and len(self._head) <= HEAD_BYTES_MAX:
            return ()
        if end < 0 or end > HEAD_BYTES_MAX:
            return self._reject(431, "the request head is too large")
        head, rest, self._head = self._head[: end + 4], self._head[end + 4 :], b""
        if not head.split(b"\r\n", 1)[0].endswith(b" HTTP/1.1"):
            return self._reject(400, "this is a websocket endpoint; use HTTP/1.1")
        found = self._feed(head)
        return (*found, *self.receive(rest)) if rest else found

    def _feed(self, data: bytes) -> tuple[Event, ...]:
        try:
            self._connection.receive_data(data)
        except RemoteProtocolError as error:
            return self._reject(400, str(error))
        found: list[Event] = []
        try:
            for event in self._connection.events():
                found.extend(self._take(event))
                if self._over:
                    break
        except RemoteProtocolError as error:
            if not self._opened:
                return self._reject(426, f"this is a websocket endpoint: {error}")
            hint = error.event_hint
            code = hint.code if isinstance(hint, ws.CloseConnection) else 1002
            found.append(self._fail(code, str(error)))
        return tuple(found)

    def outgoing(self) -> bytes:
        """Take the bytes to send."""
        out, self._out = self._out, b""
        return out

    def ping(self) -> bytes:
        """Return a ping."""
        return self._connection.send(ws.Ping())

    def _take(self, event: ws.Event) -> tuple[Event, ...]:
        match event:
            case ws.Request():
                return self._accept(event)
            case ws.TextMessage() | ws.BytesMessage():
                return self._message(event)
            case ws.Ping():
                self._out += self._connection.send(event.response())
            case ws.Pong():
                return (Pong(),)
            case ws.CloseConnection():
                self._over = True
                try:
                    self._out += self._connection.send(event.response())
                except LocalProtocolError:
                    return (self._fail(int(event.code), event.reason or ""),)
                return (Closed(int(event.code)),)
        return ()

    def _accept(self, request: ws.Request) -> tuple[Event, ...]:
        offered = set(request.subprotocols)
        chosen = next((name for name in self._subprotocols if name in offered), None)
        self._out += self._connection.send(ws.AcceptConnection(subprotocol=chosen))
        self._opened = True
        return (Opened(chosen),)

    def _message(self, event: ws.TextMessage | ws.BytesMessage) -> tuple[Event, ...]:
        data = event.data
        self._size += len(data)
        self._parts.append(data if isinstance(data, str) else bytes(data))
        if self._size > self._message_bytes_max or len(self._parts) > FRAGMENTS_MAX:
            return (self._fail(CloseReason.MESSAGE_TOO_BIG, "the message is too large"),)
        if not event.message_finished:
            return ()
        parts, self._parts, self._size = self._parts, [], 0
        if isinstance(event, ws.TextMessage):
            return (Text("".join(part for part in parts if isinstance(part, str))),)
        return (Binary(b"".join(part for part in parts if isinstance(part, bytes))),)

    def _fail(self, code: int, reason: str) -> Closed:
        self._over = True
        self._parts.clear()
        self._out += close_frame(code, reason)
        return Closed(code)

    def _reject(self, status: int, reason: str) -> tuple[Event, ...]:
        if self._opened:
            return (self._fail(1002, reason),)
        self._over = True
        body = reason.encode() + b"\n"
        self._out += (
            b"HTTP/1.1 %d Refused\r\nContent-Type: text/plain\r\nConnection: close\r\n"
            b"Upgrade: websocket\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)
        )
        return (Rejected(status),)
