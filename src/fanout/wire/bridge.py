"""The JSON that websocket clients speak: subprotocol `fanout.v1.json`.

Requests are objects with an `op`; those with an `id`, of any JSON type, are answered with the same
`id`. Errors are answered always. Names are text; a channel that is not UTF-8 can only come from a
Redis client, through a pattern, and is delivered as `channel_base64`.
"""

import base64
import binascii
import json
from collections.abc import Callable
from json.encoder import encode_basestring_ascii
from typing import Any

from fanout.values import (
    Action,
    Kind,
    Publish,
    Reply,
    Subscribe,
    Unsubscribe,
)
from fanout.wire.limits import ClientLimits, Refusal
from fanout.wire.websocket import text_frame

SUBPROTOCOL = "fanout.v1.json"

NAMES_MAX = 1024
"""Channels or patterns in one request."""

ERROR_CODES = {
    "bad_json": "The frame is not a JSON object.",
    "bad_request": "A field is missing, unknown or of the wrong type; the message names it.",
    "reserved_channel": "The channel belongs to fanout itself.",
    "name_too_long": "A channel or pattern is over the sidecar's limit.",
    "message_too_large": "The payload is over the sidecar's limit.",
    "too_many_subscriptions": "The client, or all clients together, would hold too many names.",
    "no_node": "No node can be published to now; the message was not published.",
    "publish_failed": "No node took the message; it was not published.",
    "outcome_unknown": "The node was lost with the message; it may or may not have been published.",
}
"""Stable codes of error replies."""

CLOSE_CODES = {"slow_consumer": 4008, "no_pong": 4009, "shutdown": 1001}
"""Stable websocket close codes."""

_ABSENT = object()


class _Refused(Exception):  # noqa: N818 - control flow within this module
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class BridgeSession:
    """The session of one websocket client."""

    def __init__(self, limits: ClientLimits | None = None) -> None:
        self._limits = limits or ClientLimits()
        self._held: dict[Kind, dict[bytes, None]] = {Kind.CHANNEL: {}, Kind.PATTERN: {}}
        self._ops: dict[str, Callable[[dict[str, Any], Any], Action]] = {
            "subscribe": lambda request, tag: self._subscribe(Kind.CHANNEL, request, tag),
            "psubscribe": lambda request, tag: self._subscribe(Kind.PATTERN, request, tag),
            "unsubscribe": lambda request, tag: self._unsubscribe(Kind.CHANNEL, request, tag),
            "punsubscribe": lambda request, tag: self._unsubscribe(Kind.PATTERN, request, tag),
            "publish": self._publish,
            "ping": lambda _, tag: Reply(_frame({"type": "ok", "id": _shown(tag)})),
        }

    def close(self) -> None:
        """Give up what the client held, when its connection has ended."""
        for pattern in self._held[Kind.PATTERN]:
            self._limits.patterns.discard(pattern)

    def handle(self, text: str) -> Action:
        """Return what one text frame asks for. A refused request changes nothing."""
        tag: Any = _ABSENT
        try:
            try:
                request = json.loads(text, parse_constant=_refuse_constant)
            except (ValueError, RecursionError):
                raise _Refused("bad_json", "the frame is not valid JSON") from None
            if not isinstance(request, dict):
                raise _Refused("bad_json", "the frame is not a JSON object")
            tag = request.get("id", _ABSENT)
            op = request.get("op")
            handler = self._ops.get(op) if isinstance(op, str) else None
            if handler is None:
                raise _Refused("bad_request", f"'op' must be one of {', '.join(self._ops)}")
            return handler(request, tag)
        except _Refused as refused:
            return Reply(error_frame(tag, refused.code, str(refused)))

    def handle_binary(self) -> Action:
        """Refuse a binary frame."""
        return Reply(
            error_frame(_ABSENT, "bad_json", "send text frames; binary goes in data_base64")
        )

    def _names(self, kind: Kind, request: dict[str, Any], *, required: bool) -> list[bytes]:
        field = "channels" if kind is Kind.CHANNEL else "patterns"
        names = request.get(field, _ABSENT)
        if names is _ABSENT and not required:
            return list(self._held[kind])
        if not isinstance(names, list) or not names or len(names) > NAMES_MAX:
            raise _Refused("bad_request", f"'{field}' must be a list of 1 to {NAMES_MAX} texts")
        return [_utf8(name, f"'{field}'") for name in names]

    def _subscribe(self, kind: Kind, request: dict[str, Any], tag: Any) -> Action:
        held = self._held[kind]
        names = dict.fromkeys(self._names(kind, request, required=True))
        _check(self._limits.check_subscribe(kind, held, names))
        new = tuple(name for name in names if name not in held)
        held.update(dict.fromkeys(new))
        if kind is Kind.PATTERN:
            for name in new:
                self._limits.patterns.add(name)
        return Subscribe(kind, new, _ok(tag))

    def _unsubscribe(self, kind: Kind, request: dict[str, Any], tag: Any) -> Action:
        held = self._held[kind]
        names = dict.fromkeys(self._names(kind, request, required=False))
        dropped = tuple(name for name in names if name in held)
        for name in dropped:
            del held[name]
            if kind is Kind.PATTERN:
                self._limits.patterns.discard(name)
        return Unsubscribe(kind, dropped, _ok(tag))

    def _publish(self, request: dict[str, Any], tag: Any) -> Action:
        channel = _utf8(request.get("channel"), "'channel'")
        _check(self._limits.check_name(channel))
        data, encoded = request.get("data", _ABSENT), request.get("data_base64", _ABSENT)
        if (data is _ABSENT) is (encoded is _ABSENT):
            raise _Refused("bad_request", "give either 'data' or 'data_base64'")
        if encoded is _ABSENT:
            payload = _utf8(data, "'data'")
        else:
            try:
                payload = base64.b64decode(_utf8(encoded, "'data_base64'"), validate=True)
            except binascii.Error as error:
                raise _Refused("bad_request", f"'data_base64' is not base64: {error}") from None
        _check(self._limits.check_payload(payload))
        return Publish(channel, payload, tag)


def published_frame(tag: Any, receivers: int) -> bytes:
    """Return the reply to a publish; nothing when the request had no id."""
    if tag is _ABSENT:
        return b""
    return _frame({"type": "ok", "id": tag, "receivers": receivers})


def error_frame(tag: Any, code: str, message: str) -> bytes:
    """Return an error reply."""
    return _frame({"type": "error", "id": _shown(tag), "code": code, "message": message})


def message_frame(channel: bytes, payload: bytes) -> bytes:
    """Return the delivery of a message."""
    return text_frame(
        b'{"type":"message",%b,%b}' % (_field("channel", channel), _field("data", payload))
    )


def pmessage_frame(pattern: bytes, channel: bytes, payload: bytes) -> bytes:
    """Return the delivery of a message to a pattern's subscriber."""
    return text_frame(
        b'{"type":"message",%b,%b,%b}'
        % (_field("pattern", pattern), _field("channel", channel), _field("data", payload))
    )


def _field(name: str, value: bytes) -> bytes:
    try:
        return b'"%b":%b' % (name.encode(), encode_basestring_ascii(value.decode()).encode())
    except UnicodeDecodeError:
        return b'"%b_base64":"%b"' % (name.encode(), base64.b64encode(value))


def _frame(reply: dict[str, Any]) -> bytes:
    return text_frame(json.dumps(reply, separators=(",", ":")).encode())


def _ok(tag: Any) -> bytes:
    return b"" if tag is _ABSENT else _frame({"type": "ok", "id": tag})


def _shown(tag: Any) -> Any:
    return None if tag is _ABSENT else tag


def _utf8(value: Any, field: str) -> bytes:
    if not isinstance(value, str):
        raise _Refused("bad_request", f"{field} must be text")
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise _Refused("bad_request", f"{field} has half a surrogate pair") from None


def _check(refusal: Refusal | None) -> None:
    if refusal:
        raise _Refused(refusal.code, refusal.message)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
