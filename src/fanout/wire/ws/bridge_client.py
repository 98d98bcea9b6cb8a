"""The client side of the JSON protocol: encode requests, decode frames."""

import base64
import json
import math
from typing import Any

import attrs

from fanout.errors import RemoteProtocolError
from fanout.wire.ws.bridge import PUBLISH_NUMBERED
from fanout.wire.ws.bridge_frames import VERSION

ID_LIMIT = 2**32
"""Ids are numbers below this: the range of a binary frame."""


@attrs.frozen
class Message:
    """A message. Bytes of names that are not UTF-8 are escaped, see `surrogateescape`."""

    channel: str
    data: bytes
    pattern: str | None = None


@attrs.frozen
class Gap:
    """Messages may have been missed before this point: reload the state they would have changed.

    With a `node`, the sidecar said so; reasons are those of docs/websocket.md. Without, it is
    `reconnected`, when the connection to the sidecar was lost and the subscriptions are back, or
    `overflow`, when this process did not take its messages in time.
    """

    node: str
    reason: str


Event = Message | Gap


def names_request(number: int, op: str, field: str, names: tuple[str, ...]) -> str:
    """Return a request about channels or patterns."""
    return json.dumps({"op": op, field: names, "id": number})


def publish_request(number: int, channel: str, data: bytes) -> bytes:
    """Return a request to publish."""
    name = channel.encode("utf-8", "surrogateescape")
    head = bytes((PUBLISH_NUMBERED,)) + number.to_bytes(4) + len(name).to_bytes(2)
    return head + name + data


@attrs.frozen
class Limits:
    """Limits of the sidecar."""

    names: int  # in one request
    payload_bytes: float = math.inf


def limits(hello: dict[str, Any]) -> Limits:
    """Return the limits in the hello of a sidecar. Raises RemoteProtocolError, LookupError."""
    if hello.get("type") != "hello" or hello.get("protocol") != VERSION:
        raise RemoteProtocolError("not a sidecar of a known version")
    said = hello["limits"]
    names = said.get("names") if isinstance(said, dict) else None
    if type(names) is not int or names < 1:
        raise RemoteProtocolError("the hello does not say how many names a request may have")
    payload_bytes = said.get("payload_bytes")
    return Limits(names, payload_bytes if type(payload_bytes) is int else math.inf)


def decode(text: str | bytes) -> dict[str, Any]:
    """Decode a frame. Raises RemoteProtocolError, ValueError."""
    frame = json.loads(text)
    if not isinstance(frame, dict):
        raise RemoteProtocolError("a frame is not a JSON object")
    return frame


def event(frame: dict[str, Any]) -> Event | None:
    """Return the event of a frame, if it is one for the application. Raises LookupError, ValueError."""
    match frame.get("type"):
        case "message":
            text = frame.get("data")
            data = _base64(frame, "data") if text is None else str(text).encode()
            by_pattern = "pattern" in frame or "pattern_base64" in frame
            pattern = _name(frame, "pattern") if by_pattern else None
            return Message(_name(frame, "channel"), data, pattern)
        case "gap":
            return Gap(frame["node"], frame["reason"])
    return None


def _name(frame: dict[str, Any], field: str) -> str:
    name = frame.get(field)
    if name is None:
        return _base64(frame, field).decode("utf-8", "surrogateescape")
    return str(name)


def _base64(frame: dict[str, Any], field: str) -> bytes:
    return base64.b64decode(str(frame[f"{field}_base64"]))
