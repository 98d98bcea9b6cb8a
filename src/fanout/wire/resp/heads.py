"""How PUBLISH commands begin: those that were found in order once need no second look.

A command is known by its bytes up to the end of the channel, and the length of its payload by its
digits. Bytes that equal those of a command which was decoded and checked mean the same again, so
the next such command costs two look-ups instead of a decoding, however many clients send it.
"""

HEADS_MAX = 100_000
"""Channels, and lengths, that are remembered; forgetting them costs only decoding one again."""

HEAD_BYTES_MAX = 2048
"""How far the end of the channel is looked for; behind it a command is decoded as any other."""

HEAD_BYTES_MIN = len(b"*3\r\n$7\r\nPUBLISH\r\n$0\r\n")


class PublishHeadCache:
    """What is known of the commands of all clients of a door."""

    __slots__ = ("channels", "lengths")

    def __init__(self) -> None:
        self.channels: dict[bytes, bytes] = {}
        """Beginning of a command -> its channel."""
        self.lengths: dict[bytes, int] = {}
        """Digits -> length of a payload that may be published."""

    def learn(self, verb: bytes, channel: bytes, payload_bytes: int) -> None:
        """Take that such a command may be published by everybody who may publish on the channel."""
        for known in (self.channels, self.lengths):
            if len(known) >= HEADS_MAX:
                known.clear()
        head = b"*3\r\n$7\r\n%b\r\n$%d\r\n%b" % (verb, len(channel), channel)
        self.channels[head] = channel
        self.lengths[b"%d" % payload_bytes] = payload_bytes
