"""Frames to websocket clients; each is encoded once for all clients."""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from json.encoder import encode_basestring_ascii
from typing import Any

from fanout.wire.ws.frames import text_frame

VERSION = 1
"""Version of the protocol, in the hello."""


def hello_frame(sidecar: str, connection: int, limits: Mapping[str, int]) -> bytes:
    """Return the first frame of every connection."""
    return _frame(
        {
            "type": "hello",
            "protocol": VERSION,
            "sidecar": sidecar,
            "connection": connection,
            "limits": dict(limits),
        }
    )


def gap_frame(node: str, reason: str) -> bytes:
    """Return the event that messages may have been missed; `reason` is one of GAP_REASONS."""
    return _frame({"type": "gap", "node": node, "reason": reason})


def closing_frame(reason: str) -> bytes:
    """Return the event that the sidecar will close the connection soon."""
    return _frame({"type": "closing", "reason": reason})


def confirmed_frame(tag: bytes, degraded: Sequence[str]) -> bytes:
    """Return the reply to a subscribe, with the nodes not heard; empty without an id."""
    if not tag:
        return b""
    if not degraded:
        return text_frame(b'{"type":"ok","id":%b}' % tag)
    nodes = json.dumps(degraded, separators=(",", ":")).encode()
    return text_frame(b'{"type":"ok","id":%b,"degraded":%b}' % (tag, nodes))


def published_frame(tag: bytes, receivers: int) -> bytes:
    """Return the reply to a publish; empty if the request had no id."""
    return text_frame(b'{"type":"ok","id":%b,"receivers":%d}' % (tag, receivers)) if tag else b""


def error_frame(tag: bytes, code: str, message: str) -> bytes:
    """Return an error reply; without an id in the request its id is null."""
    rest = json.dumps({"code": code, "message": message}, separators=(",", ":"))[1:].encode()
    return text_frame(b'{"type":"error","id":%b,%b' % (tag or b"null", rest))


def message_frames(channel: bytes, payloads: Iterable[bytes]) -> bytes:
    """Return the deliveries of messages of one channel."""
    head = b'{"type":"message",%b,' % _field("channel", channel)
    return b"".join([text_frame(b"%b%b}" % (head, _field("data", each))) for each in payloads])


def pmessage_frames(pattern: bytes, messages: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the deliveries of messages, each with its channel, to a pattern's subscriber."""
    head = b'{"type":"message",%b,' % _field("pattern", pattern)
    return b"".join(
        [
            text_frame(b"%b%b,%b}" % (head, _field("channel", channel), _field("data", payload)))
            for channel, payload in messages
        ]
    )


def _field(name: str, value: bytes) -> bytes:
    try:
        return b'"%b":%b' % (name.encode(), encode_basestring_ascii(value.decode()).encode())
    except UnicodeDecodeError:
        return b'"%b_base64":"%b"' % (name.encode(), base64.b64encode(value))


def _frame(reply: dict[str, Any]) -> bytes:
    return text_frame(json.dumps(reply, separators=(",", ":")).encode())
