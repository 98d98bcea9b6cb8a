"""A cache of the beginnings of PUBLISH commands that were decoded and checked before.

The key is the bytes of a command up to the end of the channel, and the digits of the payload's length.
The same bytes mean the same again, so the next such command costs two look-ups instead of a decoding,
from any client.
"""

HEADS_MAX = 100_000
"""Cached channels, and cached lengths; an evicted one is decoded again."""

HEAD_BYTES_MAX = 2048
"""How far to look for the end of the channel; longer commands are decoded as any other."""

HEAD_BYTES_MIN = len(b"*3\r\n$7\r\nPUBLISH\r\n$0\r\n")


class PublishHeadCache:
    """The cache of all clients of a door."""

    __slots__ = ("channels", "lengths")

    def __init__(self) -> None:
        self.channels: dict[bytes, bytes] = {}
        """Beginning of a command -> its channel."""
        self.lengths: dict[bytes, int] = {}
        """Digits -> length of a payload that may be published."""

    def learn(self, verb: bytes, channel: bytes, payload_bytes: int) -> None:
        """Cache a command that every client with the right to the channel may send."""
        for known in (self.channels, self.lengths):
            if len(known) >= HEADS_MAX:
                known.clear()
        head = b"*3\r\n$7\r\n%b\r\n$%d\r\n%b" % (verb, len(channel), channel)
        self.channels[head] = channel
        self.lengths[b"%d" % payload_bytes] = payload_bytes
