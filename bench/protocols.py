"""What the load generator says to each kind of server, ready made.

A message is counted by `MARK`, which stands once in each payload and nowhere else on the wire.
"""

import json
from collections.abc import Sequence
from typing import Protocol as Protocol_

import attrs

from fanout.wire.replies import pack

MARK = b"!"
STAMP = MARK + b"0" * 16
"""Begins a payload whose sender writes the time at which it was due in place of the zeros."""

Dialogue = tuple[tuple[bytes, str], ...]
"""What is said at the opening of a connection, each with the text that answers it."""


def payload(size: int) -> bytes:
    """Return a payload of at least the size of a stamp."""
    return STAMP + b"x" * (size - len(STAMP)) if size > len(STAMP) else MARK + b"x" * (size - 1)


@attrs.frozen
class Batch:
    """Requests that are sent together, and how their answers are counted."""

    data: bytes
    replies: int
    mark: bytes


def frame(data: bytes) -> bytes:
    """Return a text frame of a client, masked with zeros."""
    size = len(data)
    if size < 126:
        head = bytes((0x81, 0x80 | size))
    elif size < 65_536:
        head = bytes((0x81, 0x80 | 126)) + size.to_bytes(2)
    else:
        head = bytes((0x81, 0x80 | 127)) + size.to_bytes(8)
    return head + b"\0\0\0\0" + data


def handshake(address: str, path: str) -> bytes:
    """Return the request that opens a websocket."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


class Protocol(Protocol_):
    """What is said to one kind of server."""

    def opening(self, address: str) -> Dialogue:
        """What a publisher says."""

    def subscribing(self, address: str, channels: Sequence[str]) -> Dialogue:
        """What a subscriber says."""

    def batch(self, channels: Sequence[str], data: bytes) -> Batch:
        """One publish to each channel, with its answers."""


class Redis:
    """RESP, as spoken by Redis, Redis Cluster and the sidecar."""

    def __init__(self, login: Dialogue = ()) -> None:
        self._login = login

    def opening(self, _address: str) -> Dialogue:
        """What a publisher says."""
        return self._login

    def subscribing(self, _address: str, channels: Sequence[str]) -> Dialogue:
        """What a subscriber says."""
        last = f"{channels[-1]}\r\n:{len(channels)}\r\n"
        return (*self._login, (pack("SUBSCRIBE", *channels), last))

    def batch(self, channels: Sequence[str], data: bytes) -> Batch:
        """One publish to each channel."""
        requests = b"".join(pack("PUBLISH", channel, data) for channel in channels)
        return Batch(requests, len(channels), b":")


class Nats:
    """The protocol of nats-server."""

    def opening(self, _address: str) -> Dialogue:
        """What a publisher says."""
        return ((b'CONNECT {"verbose":false}\r\nPING\r\n', "PONG"),)

    def subscribing(self, _address: str, channels: Sequence[str]) -> Dialogue:
        """What a subscriber says."""
        subs = "".join(f"SUB {channel} {sid}\r\n" for sid, channel in enumerate(channels))
        return ((b'CONNECT {"verbose":false}\r\n' + subs.encode() + b"PING\r\n", "PONG"),)

    def batch(self, channels: Sequence[str], data: bytes) -> Batch:
        """One publish to each channel, and a ping: its answer says that all were taken."""
        requests = b"".join(
            b"PUB %b %d\r\n%b\r\n" % (c.encode(), len(data), data) for c in channels
        )
        return Batch(requests + b"PING\r\n", 1, b"P")


class Bridge:
    """The sidecar's websocket door, and the bridge of `peers/bridge.js`, which copies it."""

    def opening(self, address: str) -> Dialogue:
        """What a publisher says."""
        return ((handshake(address, "/"), "hello"),)

    def subscribing(self, address: str, channels: Sequence[str]) -> Dialogue:
        """What a subscriber says."""
        request = json.dumps({"op": "subscribe", "channels": list(channels), "id": "sub"}).encode()
        return (*self.opening(address), (frame(request), '"sub"'))

    def batch(self, channels: Sequence[str], data: bytes) -> Batch:
        """One publish to each channel."""
        requests = b"".join(
            frame(json.dumps({"op": "publish", "channel": c, "data": data.decode(), "id": 1}).encode())
            for c in channels
        )  # fmt: skip
        return Batch(requests, len(channels), b"}")


class SocketIo:
    """Socket.IO over a websocket; `peers/socketio.js` joins and publishes on request."""

    def opening(self, address: str) -> Dialogue:
        """What a publisher says."""
        path = "/socket.io/?EIO=4&transport=websocket"
        return ((handshake(address, path), '"sid"'), (frame(b"40"), '40{"sid"'))

    def subscribing(self, address: str, channels: Sequence[str]) -> Dialogue:
        """What a subscriber says."""
        request = b"42" + json.dumps(["join", list(channels)]).encode()
        return (*self.opening(address), (frame(request), "joined"))

    def batch(self, channels: Sequence[str], data: bytes) -> Batch:
        """One publish to each channel, each acknowledged."""
        requests = b"".join(
            frame(b"421" + json.dumps(["publish", c, data.decode()]).encode()) for c in channels
        )
        return Batch(requests, len(channels), b"]")
