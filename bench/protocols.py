"""The requests that the load generator sends to each kind of server, encoded in advance.

Messages are counted by `MARK`, which occurs once in each payload and nowhere else on the wire.
"""

import json
from collections.abc import Sequence
from typing import Protocol as Protocol_

import attrs

from fanout.wire.redis.client import pack

MARK = b"!"
STAMP = MARK + b"0" * 16
"""Start of a stamped payload; the sender replaces the zeros by the time at which it was due."""

NAMES_MAX = 1000
"""Names in one request at the sidecar's websocket door, whose limit is 1024."""

Dialogue = tuple[tuple[bytes, str], ...]
"""Requests sent at the opening of a connection, each with the text that its reply contains."""


def payload(size: int) -> bytes:
    """Return a payload of `size` bytes that begins with a stamp if there is room."""
    start = STAMP if size >= len(STAMP) else MARK
    return start + b"x" * (size - len(start))


@attrs.frozen
class Batch:
    """Requests that are sent together, and how their replies are counted.

    The data may hold several batches, `parts` of equal size, which are sent in rotation.
    """

    data: bytes
    replies: int
    mark: bytes
    parts: int = 1


def in_turns(batches: Sequence[Batch]) -> Batch:
    """Return batches of equal size as one, to be sent in rotation."""
    data = b"".join(each.data for each in batches)
    return attrs.evolve(batches[0], data=data, parts=len(batches))


def frame(data: bytes) -> bytes:
    """Return a client's text frame, masked with zeros."""
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
    """The requests to one kind of server. Names are channels or patterns."""

    def opening(self, address: str) -> Dialogue:
        """Return what a publisher sends first."""

    def subscribing(self, address: str, names: Sequence[str], *, patterns: bool) -> Dialogue:
        """Return what a subscriber sends."""

    def batch(self, channels: Sequence[str], data: bytes) -> Batch:
        """Return one publish to each channel, with the replies to expect."""


@attrs.frozen
class Redis:
    """RESP, as spoken by Redis, Redis Cluster and the sidecar."""

    shard: str = ""

    def opening(self, _address: str) -> Dialogue:
        """Return what a publisher sends first."""
        return ()

    def subscribing(self, _address: str, names: Sequence[str], *, patterns: bool) -> Dialogue:
        """Return what a subscriber sends."""
        verb = "PSUBSCRIBE" if patterns else f"{self.shard}SUBSCRIBE"
        last = f"{names[-1]}\r\n:{len(names)}\r\n"
        return ((pack(verb, *names), last),)

    def batch(self, channels: Sequence[str], data: bytes) -> Batch:
        """Return one publish to each channel."""
        verb = f"{self.shard}PUBLISH"
        requests = b"".join(pack(verb, channel, data) for channel in channels)
        return Batch(requests, len(channels), b":")


class Nats:
    """The protocol of nats-server; a pattern is a subject with wildcards."""

    def opening(self, _address: str) -> Dialogue:
        """Return what a publisher sends first."""
        return ((b'CONNECT {"verbose":false}\r\nPING\r\n', "PONG"),)

    def subscribing(self, _address: str, names: Sequence[str], *, patterns: bool) -> Dialogue:
        """Return what a subscriber sends."""
        del patterns
        subs = "".join(f"SUB {name} {sid}\r\n" for sid, name in enumerate(names))
        return ((b'CONNECT {"verbose":false}\r\n' + subs.encode() + b"PING\r\n", "PONG"),)

    def batch(self, channels: Sequence[str], data: bytes) -> Batch:
        """Return one publish to each channel, and a PING: its PONG confirms them all."""
        requests = b"".join(
            b"PUB %b %d\r\n%b\r\n" % (c.encode(), len(data), data) for c in channels
        )
        return Batch(requests + b"PING\r\n", 1, b"P")


class Bridge:
    """The sidecar's websocket door, and the bridge of `peers/bridge.js`, which copies it."""

    def opening(self, address: str) -> Dialogue:
        """Return what a publisher sends first."""
        return ((handshake(address, "/"), "hello"),)

    def subscribing(self, address: str, names: Sequence[str], *, patterns: bool) -> Dialogue:
        """Return what a subscriber sends: NAMES_MAX names a request, only the last has a reply."""
        op, field = ("psubscribe", "patterns") if patterns else ("subscribe", "channels")
        starts = range(0, len(names), NAMES_MAX)
        requests: list[dict[str, object]] = [
            {"op": op, field: names[at : at + NAMES_MAX]} for at in starts
        ]
        requests[-1]["id"] = "sub"
        frames = b"".join(frame(json.dumps(each).encode()) for each in requests)
        return (*self.opening(address), (frames, '"sub"'))

    def batch(self, channels: Sequence[str], data: bytes) -> Batch:
        """Return one publish to each channel."""
        requests = b"".join(
            frame(json.dumps({"op": "publish", "channel": c, "data": data.decode(), "id": 1}).encode())
            for c in channels
        )  # fmt: skip
        return Batch(requests, len(channels), b"}")


class SocketIo:
    """Socket.IO over a websocket; `peers/socketio.js` joins and publishes on request."""

    def opening(self, address: str) -> Dialogue:
        """Return what a publisher sends first."""
        path = "/socket.io/?EIO=4&transport=websocket"
        return ((handshake(address, path), '"sid"'), (frame(b"40"), '40{"sid"'))

    def subscribing(self, address: str, names: Sequence[str], *, patterns: bool) -> Dialogue:
        """Return what a subscriber sends; rooms have no patterns."""
        assert not patterns
        request = b"42" + json.dumps(["join", list(names)]).encode()
        return (*self.opening(address), (frame(request), "joined"))

    def batch(self, channels: Sequence[str], data: bytes) -> Batch:
        """Return one publish to each channel, each acknowledged."""
        requests = b"".join(
            frame(b"421" + json.dumps(["publish", c, data.decode()]).encode()) for c in channels
        )
        return Batch(requests, len(channels), b"]")


class Nchan:
    """HTTP to publish and a websocket to subscribe, as `peers/nginx.conf` has them."""

    def opening(self, _address: str) -> Dialogue:
        """Return what a publisher sends first."""
        return ()

    def subscribing(self, address: str, names: Sequence[str], *, patterns: bool) -> Dialogue:
        """Return what a subscriber sends; a location has one channel and no patterns."""
        assert len(names) == 1
        assert not patterns
        return ((handshake(address, f"/sub?id={names[0]}"), "\r\n\r\n"),)

    def batch(self, channels: Sequence[str], data: bytes) -> Batch:
        """Return one request for each channel. The only capital H in a reply is that of HTTP."""
        requests = b"".join(
            b"POST /pub?id=%b HTTP/1.1\r\nHost: bench\r\nContent-Length: %d\r\n\r\n%b"
            % (c.encode(), len(data), data)
            for c in channels
        )
        return Batch(requests, len(channels), b"H")


class Webdis:
    """Chunked HTTP: the websockets of Debian's webdis follow a draft before RFC 6455."""

    def opening(self, _address: str) -> Dialogue:
        """Return what a publisher sends first."""
        return ()

    def subscribing(self, _address: str, names: Sequence[str], *, patterns: bool) -> Dialogue:
        """Return what a subscriber sends."""
        verb = "PSUBSCRIBE" if patterns else "SUBSCRIBE"
        request = f"GET /{verb}/{'/'.join(names)} HTTP/1.1\r\nHost: bench\r\n\r\n"
        return ((request.encode(), f'"{names[-1]}",{len(names)}]'),)

    def batch(self, channels: Sequence[str], data: bytes) -> Batch:
        """Return one request for each channel."""
        requests = b"".join(
            b"GET /PUBLISH/%b/%b HTTP/1.1\r\nHost: bench\r\n\r\n" % (c.encode(), data)
            for c in channels
        )
        return Batch(requests, len(channels), b"{")
