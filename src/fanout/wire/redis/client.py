"""The client side of the Redis protocol: encode commands, decode replies.

hiredis does both in C. It trusts the announced length of an array, so it is used only for the Redis
servers of the fleet, never for clients (see `fanout.wire.resp.requests`).
"""

from typing import Any

import hiredis

from fanout.errors import RemoteProtocolError

PushNotification = hiredis.PushNotification
"""A RESP3 push: a list whose first item names its kind, such as `message`."""

ReplyError = hiredis.ReplyError
"""An error reply; it is returned by `ReplyReader.gets`, not raised."""

NOT_YET = object()
"""What `ReplyReader.gets` returns when no whole reply has arrived."""

Argument = bytes | str | int | float


def pack(*arguments: Argument) -> bytes:
    """Encode a command."""
    packed: bytes = hiredis.pack_command(arguments)  # type: ignore[arg-type]
    return packed


def publish_command(channel: bytes, payload: bytes) -> bytes:
    """Encode a PUBLISH; twice as fast as `pack`."""
    return b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (
        len(channel),
        channel,
        len(payload),
        payload,
    )


class ReplyReader:
    """Decodes replies: numbers, bytes, lists, dicts, `PushNotification`, `ReplyError`."""

    __slots__ = ("feed", "gets", "has_data")

    def __init__(self) -> None:
        reader = hiredis.Reader(
            notEnoughData=NOT_YET, protocolError=RemoteProtocolError, replyError=ReplyError
        )
        # Bound once: these two are called for every batch and every message.
        self.feed = reader.feed
        self.gets = reader.gets
        self.has_data = reader.has_data  # whether an item was fed in part


def error_text(reply: Any) -> str:
    """Return the text of a `ReplyError`."""
    return str(reply)


def numsub(reply: Any) -> int | None:
    """Return the count in a reply to PUBSUB NUMSUB for one channel; None for any other reply."""
    known = isinstance(reply, list) and len(reply) == 2 and type(reply[1]) is int  # noqa: PLR2004
    return reply[1] if known else None
