"""The JSON protocol of websocket clients: subprotocol `fanout.v1.json`.

Requests are objects with an `op`; a request with an `id`, of any JSON type, gets a reply with the same
`id`. Errors always get a reply. Names are text; a channel that is not UTF-8 can only come from a
Redis client or a binary frame, through a pattern, and is delivered as `channel_base64`.

An `id` is kept as encoded JSON, so a request whose `id` cannot be encoded is refused before it is
performed.
"""

import base64
import binascii
import json
import math
from collections.abc import Callable
from typing import Any, Protocol

from fanout.values.names import Kind
from fanout.values.requests import Action, Publish, Reply, Subscribe, Unsubscribe
from fanout.wire.limits import Access, ClientLimits, Refusal
from fanout.wire.ws.bridge_frames import confirmed_frame, error_frame
from fanout.wire.ws.frames import text_frame

SUBPROTOCOL = "fanout.v1.json"

NAMES_MAX = 1024
"""Channels or patterns in one request."""

ID_BYTES_MAX = 1024
"""An `id` as compact JSON. Ids wait with their requests, of which a client may send many."""

PUBLISH = 1
PUBLISH_NUMBERED = 2
"""First byte of a binary frame: publish, or publish and be answered by number."""

ERROR_CODES = {
    "bad_json": "The text frame is not a JSON object.",
    "bad_binary": "The binary frame has an unknown format.",
    "unauthenticated": "The client is not logged in, or the token is invalid.",
    "forbidden": "The user has no right to the channel or pattern.",
    "bad_request": "A field is missing or of the wrong kind; the message names it.",
    "reserved_channel": "The channel is reserved for fanout.",
    "name_too_long": "A channel or pattern is over the sidecar's limit.",
    "message_too_large": "The payload is over the sidecar's limit.",
    "too_many_subscriptions": "The client, or all clients together, would hold too many names.",
    "no_node": "No node accepts publishes at the moment; the message was not published.",
    "publish_failed": "No node accepted the message; it was not published.",
    "outcome_unknown": "The node was lost before its reply; the message may or may not have been published.",
}
"""Stable codes of error replies."""

GAP_REASONS = {
    "lost": "The sidecar no longer hears the node; messages may be missed from now on.",
    "heard": "The sidecar hears the node; messages published on it before may be missed.",
    "left": "The sidecar gave up a lost node; this incarnation will not be heard again.",
}
"""Why messages of a node may have been missed."""

CLOSE_CODES = {
    "shutdown": 1012,
    "slow_consumer": 4008,
    "no_pong": 4009,
    "login_timeout": 4010,
    "revoked": 4011,
}
"""Stable websocket close codes, beside those of the websocket protocol itself."""

_ABSENT = object()
_BINARY_HEAD_BYTES = {PUBLISH: 3, PUBLISH_NUMBERED: 7}


class _Refused(Exception):  # noqa: N818 - control flow within this module
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class TokenAuthenticator(Protocol):
    """Checks tokens; see `fanout.runtime.sidecar.authenticator`."""

    @property
    def has_users(self) -> bool:
        """Whether clients must log in."""

    def log_in_by_token(self, token: bytes) -> Access | None:
        """Return the rights of the user with this secret; None if there is none."""


class BridgeSession:
    """The session of one websocket client."""

    def __init__(self, limits: ClientLimits, gate: TokenAuthenticator | None = None) -> None:
        self._limits = limits
        self._gate = gate
        self.access: Access | None = None
        self._held: dict[Kind, dict[bytes, None]] = {Kind.CHANNEL: {}, Kind.PATTERN: {}}
        self._ops: dict[str, Callable[[dict[str, Any], bytes], Action]] = {
            "subscribe": lambda request, tag: self._subscribe(Kind.CHANNEL, request, tag),
            "psubscribe": lambda request, tag: self._subscribe(Kind.PATTERN, request, tag),
            "unsubscribe": lambda request, tag: self._unsubscribe(Kind.CHANNEL, request, tag),
            "punsubscribe": lambda request, tag: self._unsubscribe(Kind.PATTERN, request, tag),
            "publish": self._publish,
            "auth": self._auth,
            "ping": lambda _, tag: Reply(text_frame(b'{"type":"ok","id":%b}' % (tag or b"null"))),
        }

    @property
    def locked(self) -> bool:
        """Whether the client must log in before anything else."""
        return self.access is None and self._gate is not None and self._gate.has_users

    def log_in(self, token: bytes) -> bool:
        """Log in with a token; return whether it is valid."""
        access = self._gate.log_in_by_token(token) if self._gate is not None else None
        self.access = access or self.access
        return access is not None

    def may_keep(self, access: Access) -> bool:
        """Replace the client's rights; return whether they allow its subscriptions."""
        self.access = access
        held = self._held
        return all(map(access.may_subscribe, held[Kind.CHANNEL])) and all(
            map(access.may_psubscribe, held[Kind.PATTERN])
        )

    def close(self) -> None:
        """Release what the client holds, after its connection has ended."""
        for pattern in self._held[Kind.PATTERN]:
            self._limits.patterns.discard(pattern)

    def handle(self, text: str) -> Action:
        """Return the action of a text frame. A refused request changes nothing."""
        tag = b""
        try:
            try:
                request = _DECODER.decode(text)
            except (ValueError, RecursionError):
                raise _Refused("bad_json", "the frame is not valid JSON") from None
            if not isinstance(request, dict):
                raise _Refused("bad_json", "the frame is not a JSON object")
            tag = _tag(request)
            op = request.get("op")
            handler = self._ops.get(op) if isinstance(op, str) else None
            if handler is None:
                raise _Refused("bad_request", f"'op' must be one of {', '.join(self._ops)}")
            if self.locked and op not in ("auth", "ping"):
                raise _Refused("unauthenticated", "log in first, by op auth with a token")
            return handler(request, tag)
        except _Refused as refused:
            return Reply(error_frame(tag, refused.code, str(refused)))

    def handle_binary(self, data: bytes) -> Action:
        """Return the publish of a binary frame. A refused one changes nothing."""
        tag = b""
        try:
            start = _BINARY_HEAD_BYTES.get(data[0], 0) if data else 0
            whole = start and len(data) >= start
            if whole and data[0] == PUBLISH_NUMBERED:
                tag = b"%d" % int.from_bytes(data[1:5])
            if self.locked:
                raise _Refused("unauthenticated", "log in first, by op auth with a token")
            if not whole:
                raise _Refused("bad_binary", "a binary frame begins with 1 or 2 and a whole header")
            end = start + int.from_bytes(data[start - 2 : start])
            if end > len(data):
                raise _Refused("bad_binary", "the frame ends within the channel")
            _check(self._limits.check_name(data[start:end]))
            return self._checked_publish(data[start:end], data[end:], tag)
        except _Refused as refused:
            return Reply(error_frame(tag, refused.code, str(refused)))

    def _names(self, kind: Kind, request: dict[str, Any], *, required: bool) -> list[bytes]:
        field = "channels" if kind is Kind.CHANNEL else "patterns"
        names = request.get(field, _ABSENT)
        if names is _ABSENT and not required:
            return list(self._held[kind])
        if not isinstance(names, list) or not names or len(names) > NAMES_MAX:
            raise _Refused("bad_request", f"'{field}' must be a list of 1 to {NAMES_MAX} texts")
        return [_utf8(name, f"'{field}'") for name in names]

    def _auth(self, request: dict[str, Any], tag: bytes) -> Action:
        token = _utf8(request.get("token"), "'token'")
        if self._gate is not None and self._gate.has_users and not self.log_in(token):
            raise _Refused("unauthenticated", "invalid token")
        return Reply(confirmed_frame(tag, ()))

    def _subscribe(self, kind: Kind, request: dict[str, Any], tag: bytes) -> Action:
        held = self._held[kind]
        names = dict.fromkeys(self._names(kind, request, required=True))
        _check(self._limits.check_subscribe(kind, held, names))
        access = self.access
        if access is not None:
            may = access.may_subscribe if kind is Kind.CHANNEL else access.may_psubscribe
            if not all(map(may, names)):
                raise _Refused("forbidden", f"{access.user} may not subscribe to all of these")
        new = tuple(name for name in names if name not in held)
        held.update(dict.fromkeys(new))
        if kind is Kind.PATTERN:
            for name in new:
                self._limits.patterns.add(name)
        return Subscribe(kind, new, b"", tag)

    def _unsubscribe(self, kind: Kind, request: dict[str, Any], tag: bytes) -> Action:
        held = self._held[kind]
        names = dict.fromkeys(self._names(kind, request, required=False))
        for name in names:
            _check(self._limits.check_name(name))
        dropped = tuple(name for name in names if name in held)
        for name in dropped:
            del held[name]
            if kind is Kind.PATTERN:
                self._limits.patterns.discard(name)
        return Unsubscribe(kind, dropped, confirmed_frame(tag, ()))

    def _publish(self, request: dict[str, Any], tag: bytes) -> Action:
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
        return self._checked_publish(channel, payload, tag)

    def _checked_publish(self, channel: bytes, payload: bytes, tag: bytes) -> Action:
        _check(self._limits.check_payload(payload))
        if self.access is not None and not self.access.may_publish(channel):
            raise _Refused("forbidden", f"{self.access.user} may not publish on this channel")
        return Publish(channel, payload, tag)


def _tag(request: dict[str, Any]) -> bytes:
    """Return the id of a request as JSON; empty if it has none."""
    given = request.get("id", _ABSENT)
    if given is _ABSENT:
        return b""
    try:
        tag = json.dumps(given, separators=(",", ":")).encode()
    except RecursionError:
        raise _Refused("bad_request", "'id' is nested too deeply") from None
    if len(tag) > ID_BYTES_MAX:
        raise _Refused("bad_request", f"'id' is over {ID_BYTES_MAX} bytes")
    return tag


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


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} cannot be written back")
    return number


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)
"""One decoder: `json.loads` with these arguments would make one for each text."""
