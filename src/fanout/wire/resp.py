"""What the RESP door writes: replies and deliveries in Redis' protocol, versions 2 and 3."""

from collections.abc import Iterable

OK = b"+OK\r\n"
PONG = b"+PONG\r\n"
NULL2 = b"$-1\r\n"
NULL3 = b"_\r\n"

_LINE_BREAKS_TO_SPACES = bytes.maketrans(b"\r\n", b"  ")


def integer(number: int) -> bytes:
    """Encode a number."""
    return b":%d\r\n" % number


def simple(text: bytes) -> bytes:
    """Encode a short status without line breaks."""
    return b"+%b\r\n" % text


def error(text: str | bytes) -> bytes:
    """Encode an error; line breaks, which would end it early, become spaces.

    Bytes stay as they are, for errors that repeat what a client sent.
    """
    line = text.encode("utf-8", "backslashreplace") if isinstance(text, str) else text
    return b"-%b\r\n" % line.translate(_LINE_BREAKS_TO_SPACES)


def bulk(data: bytes | None, *, resp3: bool = False) -> bytes:
    """Encode any bytes; None as the null of the protocol."""
    if data is None:
        return NULL3 if resp3 else NULL2
    return b"$%d\r\n%b\r\n" % (len(data), data)


def array(items: Iterable[bytes]) -> bytes:
    """Encode a list of items that are already encoded."""
    parts = list(items)
    return b"*%d\r\n%b" % (len(parts), b"".join(parts))


def collection(items: Iterable[bytes], *, resp3: bool) -> bytes:
    """Encode items without an order: a set in RESP3, a list in RESP2."""
    parts = list(items)
    return b"%b%d\r\n%b" % (b"~" if resp3 else b"*", len(parts), b"".join(parts))


def mapping(items: Iterable[tuple[bytes, bytes]], *, resp3: bool) -> bytes:
    """Encode pairs of encoded items: a map in RESP3, a flat list in RESP2."""
    parts = [part for pair in items for part in pair]
    if resp3:
        return b"%%%d\r\n%b" % (len(parts) // 2, b"".join(parts))
    return array(parts)


def confirmation(verb: bytes, name: bytes | None, count: int, *, resp3: bool) -> bytes:
    """Encode the confirmation of one (un)subscribed name; None where there was none to drop."""
    head = b">3\r\n" if resp3 else b"*3\r\n"
    return head + bulk(verb) + bulk(name, resp3=resp3) + integer(count)


def message2(channel: bytes, payload: bytes) -> bytes:
    """Encode the delivery of a message, RESP2."""
    return b"*3\r\n$7\r\nmessage\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (
        len(channel), channel, len(payload), payload,
    )  # fmt: skip


def message3(channel: bytes, payload: bytes) -> bytes:
    """Encode the delivery of a message, RESP3."""
    return b">3\r\n$7\r\nmessage\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (
        len(channel), channel, len(payload), payload,
    )  # fmt: skip


def pmessage2(pattern: bytes, channel: bytes, payload: bytes) -> bytes:
    """Encode the delivery of a message to a pattern's subscriber, RESP2."""
    return b"*4\r\n$8\r\npmessage\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (
        len(pattern), pattern, len(channel), channel, len(payload), payload,
    )  # fmt: skip


def pmessage3(pattern: bytes, channel: bytes, payload: bytes) -> bytes:
    """Encode the delivery of a message to a pattern's subscriber, RESP3."""
    return b">4\r\n$8\r\npmessage\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (
        len(pattern), pattern, len(channel), channel, len(payload), payload,
    )  # fmt: skip
