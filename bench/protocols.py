"""What the load generator says to each kind of server, ready made.

A message is counted by `MARK`, which stands once in each payload and nowhere else on the wire.
"""

import json
from collections.abc import Sequence
from typing import Protocol as Protocol_

import attrs

from fanout.wire.redis.client import pack

MARK = b"!"
STAMP = MARK + b"0" * 16
"""Begins a payload whose sender writes the time at which it was due in place of the zeros."""

NAMES_MAX = 1000
"""Names in one request at the sidecar's websocket door, which takes 1024."""

Dialogue = tuple[tuple[bytes, str], ...]
"""What is said at the opening of a connection, each with the text that answers it."""


def payload(size: int) -> bytes:
    """Return a payload of so many bytes, which begins with a stamp if that fits in."""
    start = STAMP if size >= len(STAMP) else MARK
    return start + b"x" * (size - len(start))


@attrs.frozen
class Batch:
    """Requests that are sent together, and how their answers are counted.

    The data may hold several batches, `parts` of equal size, for a sender to send in turns.
    """

    data: bytes
    replies: int
    mark: bytes
    parts: int = 1


def in_turns(batches: Sequence[Batch]) -> Batch:
    """Return batches of one size as one, to be sent in turns."""
    data = b"".join(each.data for each in batches)
    return attrs.evolve(batches[0], data=data, parts=len(batches))


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
    """What is said to one kind of server. Names are of channels, or of patterns that match some."""

    def opening(self, address: str) -> Dialogue:
        """What a publisher says."""

    def subscribing(self, address: str, names: Sequence[str], *, patterns: bool) -> Dialogue:
        """What a subscriber says."""

    def batch(self, channels: Sequence[str], data: bytes) -> Batch:
        """One publish to each channel, with its answers."""


@attrs.frozen
class Redis:
    """RESP, as spoken by Redis, Redis Cluster and the sidecar."""

    shard: str = ""

    def opening(self, _address: str) -> Dialogue:
        """What a publisher says."""
        return ()

    def subscribing(self, _address: str, names: Sequence[str], *, patterns: bool) -> Dialogue:
        """What a subscriber says."""
        verb = "PSUBSCRIBE" if patterns else f"{self.shard}SUBSCRIBE"
        last = f"{names[-1]}\r\n:{len(names)}\r\n"
        return ((pack(verb, *names), last),)

    def batch(self, channels: Sequence[str], data: bytes) -> Batch:
        """One publish to each channel."""
        verb = f"{self.shard}PUBLISH"
        requests = b"".join(pack(verb, channel, data) for channel in channels)
        return Batch(requests, len(channels), b":")


class Nats:
    """The protocol of nats-server; what is a pattern to it is known by its form."""

    def opening(self, _address: str) -> Dialogue:
        """What a publisher says."""
        return ((b'CONNECT {"verbose":false}\r\nPING\r\n', "PONG"),)

    def subscribing(self, _address: str, names: Sequence[str], *, patterns: bool) -> Dialogue:
        """What a subscriber says."""
        del patterns
        subs = "".join(f"SUB {name} {sid}\r\n" for sid, name in enumerate(names))
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

    def subscribing(self, address: str, names: Sequence[str], *, patterns: bool) -> Dialogue:
        """What a subscriber says: so many names at a time, and only the last is answered."""
        op, field = ("psubscribe", "patterns") if patterns else ("subscribe", "channels")
        starts = range(0, len(names), NAMES_MAX)
        requests: list[dict[str, object]] = [
            {"op": op, field: names[at : at + NAMES_MAX]} for at in starts
        ]
        requests[-1]["id"] = "sub"
        frames = b"".join(frame(json.dumps(each).encode()) for each in requests)
        return (*self.opening(address), (frames, '"sub"'))

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

    def subscribing(self, address: str, names: Sequence[str], *, patterns: bool) -> Dialogue:
        """What a subscriber says: rooms know no patterns."""
        assert not patterns
        request = b"42" + json.dumps(["join", list(names)]).encode()
        return (*self.opening(address), (frame(request), "joined"))

    def batch(self, channels: Sequence[str], data: bytes) -> Batch:
        """One publish to each channel, each acknowledged."""
        requests = b"".join(
            frame(b"421" + json.dumps(["publish", c, data.decode()]).encode()) for c in channels
        )
        return Batch(requests, len(channels), b"]")


class Nchan:
    """HTTP to publish and a websocket to subscribe, as `peers/nginx.conf` has them."""

    def opening(self, _address: str) -> Dialogue:
        """What a publisher says."""
        return ()

    def subscribing(self, address: str, names: Sequence[str], *, patterns: bool) -> Dialogue:
        """What a subscriber says: a location knows one channel and no patterns."""
        assert len(names) == 1
        assert not patterns
        return ((handshake(address, f"/sub?id={names[0]}"), "\r\n\r\n"),)

    def batch(self, channels: Sequence[str], data: bytes) -> Batch:
        """One request for each channel; no capital H stands in an answer but that of HTTP."""
        requests = b"".join(
            b"POST /pub?id=%b HTTP/1.1\r\nHost: bench\r\nContent-Length: %d\r\n\r\n%b"
            % (c.encode(), len(data), data)
            for c in channels
        )
        return Batch(requests, len(channels), b"H")


class Webdis:
    """Chunked HTTP: the websockets of Debian's webdis are of the draft before RFC 6455."""

    def opening(self, _address: str) -> Dialogue:
        """What a publisher says."""
        return ()

    def subscribing(self, _address: str, names: Sequence[str], *, patterns: bool) -> Dialogue:
        """What a subscriber says."""
        verb = "PSUBSCRIBE" if patterns else "SUBSCRIBE"
        request = f"GET /{verb}/{'/'.join(names)} HTTP/1.1\r\nHost: bench\r\n\r\n"
        return ((request.encode(), f'"{names[-1]}",{len(names)}]'),)

    def batch(self, channels: Sequence[str], data: bytes) -> Batch:
        """One request for each channel."""
        requests = b"".join(
            b"GET /PUBLISH/%b/%b HTTP/1.1\r\nHost: bench\r\n\r\n" % (c.encode(), data)
            for c in channels
        )
        return Batch(requests, len(channels), b"{")
