"""Encoding of replies and deliveries in the Redis protocol, versions 2 and 3."""

from collections.abc import Iterable

OK = b"+OK\r\n"
PONG = b"+PONG\r\n"
NULL2 = b"$-1\r\n"
NULL3 = b"_\r\n"


_SMALL = tuple(b":%d\r\n" % number for number in range(1024))
"""Replies to PUBLISH count subscribers, and every message gets one."""


def integer(number: int) -> bytes:
    """Encode a number."""
    return _SMALL[number] if 0 <= number < len(_SMALL) else b":%d\r\n" % number


def simple(text: bytes) -> bytes:
    """Encode a short status without line breaks."""
    return b"+%b\r\n" % text


def error(text: str) -> bytes:
    """Encode an error; line breaks, which would end it early, become spaces."""
    line = text.encode("utf-8", "surrogateescape").replace(b"\r", b" ").replace(b"\n", b" ")
    return b"-%b\r\n" % line


def text(data: bytes) -> str:
    """Return bytes of a client as text for `error`, which encodes the same bytes again.

    Bytes after a NUL are left out, as in Redis, which prints a C string.
    """
    return data.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def syntax_error(container: str, subcommand: bytes) -> bytes:
    """Encode the error of Redis for wrong arguments of a subcommand."""
    shown = text(subcommand[:128])
    return error(
        f"ERR unknown subcommand or wrong number of arguments for '{shown}'. Try {container} HELP."
    )


def bulk(data: bytes) -> bytes:
    """Encode any bytes."""
    return b"$%d\r\n%b\r\n" % (len(data), data)


def verbatim(data: bytes) -> bytes:
    """Encode a text for people, RESP3."""
    return b"=%d\r\ntxt:%b\r\n" % (len(data) + 4, data)


def array(items: Iterable[bytes]) -> bytes:
    """Encode a list of items that are already encoded."""
    parts = list(items)
    return b"*%d\r\n%b" % (len(parts), b"".join(parts))


def mapping(items: Iterable[tuple[bytes, bytes]], *, resp3: bool) -> bytes:
    """Encode pairs of encoded items: a map in RESP3, a flat list in RESP2."""
    parts = [part for pair in items for part in pair]
    if resp3:
        return b"%%%d\r\n%b" % (len(parts) // 2, b"".join(parts))
    return array(parts)


def help_text(container: str, lines: Iterable[str]) -> bytes:
    """Encode the reply to a HELP subcommand."""
    first = f"{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    last = ("HELP", "    Prints this help.")
    return array(simple(line.encode()) for line in (first, *lines, *last))


def confirmation(verb: bytes, name: bytes | None, count: int, *, resp3: bool) -> bytes:
    """Encode the confirmation of one (un)subscribed name; None where there was none to drop."""
    null = NULL3 if resp3 else NULL2
    head = b">3\r\n" if resp3 else b"*3\r\n"
    return head + bulk(verb) + (null if name is None else bulk(name)) + integer(count)


def messages2(channel: bytes, payloads: Iterable[bytes]) -> bytes:
    """Encode deliveries of messages of one channel, RESP2."""
    return _deliveries(b"*3\r\n$7\r\nmessage\r\n", channel, payloads)


def messages3(channel: bytes, payloads: Iterable[bytes]) -> bytes:
    """Encode deliveries of messages of one channel, RESP3."""
    return _deliveries(b">3\r\n$7\r\nmessage\r\n", channel, payloads)


def smessages2(channel: bytes, payloads: Iterable[bytes]) -> bytes:
    """Encode deliveries of messages of one shard channel, RESP2."""
    return _deliveries(b"*3\r\n$8\r\nsmessage\r\n", channel, payloads)


def smessages3(channel: bytes, payloads: Iterable[bytes]) -> bytes:
    """Encode deliveries of messages of one shard channel, RESP3."""
    return _deliveries(b">3\r\n$8\r\nsmessage\r\n", channel, payloads)


def pmessages2(pattern: bytes, messages: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Encode deliveries of messages, each with its channel, to a pattern's subscriber, RESP2."""
    return _pdeliveries(b"*4\r\n$8\r\npmessage\r\n", pattern, messages)


def pmessages3(pattern: bytes, messages: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Encode deliveries of messages, each with its channel, to a pattern's subscriber, RESP3."""
    return _pdeliveries(b">4\r\n$8\r\npmessage\r\n", pattern, messages)


def _deliveries(kind: bytes, channel: bytes, payloads: Iterable[bytes]) -> bytes:
    head = b"%b$%d\r\n%b\r\n$" % (kind, len(channel), channel)
    return b"".join([b"%b%d\r\n%b\r\n" % (head, len(payload), payload) for payload in payloads])


def _pdeliveries(kind: bytes, pattern: bytes, messages: Iterable[tuple[bytes, bytes]]) -> bytes:
    head = b"%b$%d\r\n%b\r\n$" % (kind, len(pattern), pattern)
    return b"".join(
        [
            b"%b%d\r\n%b\r\n$%d\r\n%b\r\n" % (head, len(channel), channel, len(payload), payload)
            for channel, payload in messages
        ]
    )
