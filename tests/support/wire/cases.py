"""The cases of RFC 6455, sections as in Autobahn."""

import struct

import attrs

from tests.support.wire.rfc6455 import (
    BINARY,
    CLOSE,
    CONTINUATION,
    MASK,
    PING,
    PONG,
    TEXT,
    close,
    frame,
    header,
)

MESSAGE_BYTES_MAX = 70_000


FRAGMENTS_MAX = 20


LONG = bytes(range(256)) * 256


VALID = "Hello-µ@ßöäüàá-UTF-8!! κόσμε".encode()


INVALID = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited"


@attrs.frozen
class Case:
    """What a client sends behind its handshake, and the expected result."""

    name: str
    sent: bytes
    messages: tuple[str | bytes, ...] = ()
    pongs: tuple[bytes, ...] = ()
    code: int | None = None  # of the Close frame sent to the client; none: it stays open
    answer: bytes | None = None  # the whole payload of that frame, when it is an echo
    by_peer: bool = False


def fragments(opcode: int, *pieces: bytes) -> bytes:
    """Return a message in as many frames as there are pieces."""
    last = len(pieces) - 1
    return b"".join(
        frame(opcode if number == 0 else CONTINUATION, piece, fin=number == last)
        for number, piece in enumerate(pieces)
    )


def echoed(name: str, sent: bytes, code: int, reason: bytes = b"") -> Case:
    """Return a case in which the client closes in order."""
    return Case(name, sent, code=code, answer=struct.pack("!H", code) + reason, by_peer=True)


def failed(name: str, sent: bytes, code: int = 1002) -> Case:
    """Return a case in which the connection is failed; a good message behind it is not read."""
    return Case(name, sent + frame(TEXT, b"never read"), code=code)


FRAMING = [
    *(Case(f"1.1 text of {n}", frame(TEXT, b"*" * n), ("*" * n,)) for n in (0, 125, 126, 127, 128)),
    *(Case(f"1.1 text of {n}", frame(TEXT, b"*" * n), ("*" * n,)) for n in (65_535, 65_536)),
    *(Case(f"1.2 binary of {n}", frame(BINARY, LONG[:n]), (LONG[:n],)) for n in (0, 125, 126)),
    *(Case(f"1.2 binary of {n}", frame(BINARY, LONG[:n]), (LONG[:n],)) for n in (65_535, 65_536)),
]


PINGS = [
    Case("2.1 empty", frame(PING), pongs=(b"",)),
    Case("2.2 text", frame(PING, b"Hello"), pongs=(b"Hello",)),
    Case("2.3 bytes", frame(PING, b"\x00\xff\xfe"), pongs=(b"\x00\xff\xfe",)),
    Case("2.4 of 125", frame(PING, b"\xfe" * 125), pongs=(b"\xfe" * 125,)),
    failed("2.5 of 126", frame(PING, b"\xfe" * 126)),
    Case("2.7 unasked pong", frame(PONG)),
    Case("2.8 unasked pong with text", frame(PONG, b"x")),
    Case("2.9 pong, then ping", frame(PONG, b"x") + frame(PING, b"y"), pongs=(b"y",)),
    Case(
        "2.10 ten pings",
        b"".join(frame(PING, b"%d" % n) for n in range(10)),
        pongs=tuple(b"%d" % n for n in range(10)),
    ),
    failed("2.x pong of 126", frame(PONG, b"\xfe" * 126)),
]


RESERVED = [
    *(failed(f"3.1 rsv {rsv}", frame(TEXT, b"x", rsv=rsv)) for rsv in range(1, 8)),
    failed("3.3 rsv of an empty ping", frame(PING, rsv=2)),
    failed("3.4 rsv of a close", frame(CLOSE, struct.pack("!H", 1000), rsv=4)),
    failed("3.x rsv of a continuation", frame(TEXT, b"x", fin=False) + frame(0, b"y", rsv=1)),
    *(failed(f"4.1 opcode {opcode}", frame(opcode)) for opcode in range(3, 8)),
    *(failed(f"4.2 opcode {opcode}", frame(opcode, b"x")) for opcode in range(11, 16)),
    failed("unmasked text", header(TEXT, 1, mask=0) + b"x"),
    failed("unmasked and empty", header(TEXT, 0, mask=0)),
    failed("unmasked close", header(CLOSE, 2, mask=0) + struct.pack("!H", 1000)),
    failed("length in 2 bytes too many", header(TEXT, 125, form=3) + MASK + b"x" * 125),
    failed("length in 8 bytes for 65535", header(TEXT, 65_535, form=9) + MASK + LONG[:65_535]),
    failed("ping with a length of 2 bytes", header(PING, 5, form=3) + MASK + b"hello"),
]


FRAGMENTATION = [
    failed("5.1 ping in two", fragments(PING, b"a", b"b")),
    failed("5.2 pong in two", fragments(PONG, b"a", b"b")),
    failed("5.x close in two", fragments(CLOSE, b"\x03", b"\xe8")),
    Case("5.3 text in two", fragments(TEXT, b"a", b"b"), ("ab",)),
    Case(
        "5.6 ping between",
        frame(TEXT, b"a", fin=False) + frame(PING, b"p") + frame(CONTINUATION, b"b"),
        ("ab",),
        (b"p",),
    ),
    Case(
        "5.x pong between pieces of binary",
        frame(BINARY, b"\xff", fin=False) + frame(PONG) + frame(CONTINUATION, b"\xfe"),
        (b"\xff\xfe",),
    ),
    failed("5.9 continuation of nothing", frame(CONTINUATION, b"x")),
    failed("5.11 continuation of nothing, unfinished", frame(CONTINUATION, b"x", fin=False)),
    Case(
        "5.15 continuation behind a whole message",
        fragments(TEXT, b"a", b"b") + frame(CONTINUATION, b"c", fin=False),
        ("ab",),
        code=1002,
    ),
    failed("5.18 a new text inside one", frame(TEXT, b"a", fin=False) + frame(TEXT, b"b")),
    failed("5.x binary inside a text", frame(TEXT, b"a", fin=False) + frame(BINARY, b"b")),
    Case(
        "5.19 pings in two places",
        frame(TEXT, b"a", fin=False) + frame(CONTINUATION, b"b", fin=False) + frame(PING, b"1")
        + frame(CONTINUATION, b"c", fin=False) + frame(PING, b"2") + frame(CONTINUATION, b"d"),
        ("abcd",),
        (b"1", b"2"),
    ),
    Case("5.x only empty pieces", fragments(BINARY, b"", b"", b""), (b"",)),
    Case("5.x two messages in turn", fragments(TEXT, b"a", b"") * 2, ("a", "a")),
]  # fmt: skip


UTF8 = [
    Case("6.1.1 empty", frame(TEXT), ("",)),
    Case("6.1.2 empty pieces", fragments(TEXT, b"", b"", b""), ("",)),
    Case("6.1.3 text between empty pieces", fragments(TEXT, b"", VALID, b""), (VALID.decode(),)),
    Case("6.2.1 valid", frame(TEXT, VALID), (VALID.decode(),)),
    Case(
        "6.2.3 each byte a frame",
        fragments(TEXT, *(b"%c" % byte for byte in "κόσμε".encode())),
        ("κόσμε",),
    ),
    failed("6.3.1 invalid", frame(TEXT, INVALID), 1007),
    failed("6.3.2 invalid over frames", fragments(TEXT, INVALID[:11], INVALID[11:]), 1007),
    failed(
        "6.4.1 invalid in a frame that is not the last",
        frame(TEXT, b"\xce\xba\xf4\x90\x80\x80", fin=False),
        1007,
    ),
    failed("6.4.2 known by half a character", frame(TEXT, b"\xce\xba\xf4\x90", fin=False), 1007),
    failed("6.4.4 known before the frame ends", header(TEXT, 900) + MASK + b"\xc8" * 2, 1007),
    *(
        Case(f"6.5 {text.encode()!r}", frame(TEXT, text.encode()), (text,))
        for text in ("\0", "\x7f", "\x80", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\uffff")
    ),
    *(
        Case(f"6.5 {text.encode()!r}", frame(TEXT, text.encode()), (text,))
        for text in ("\ufffe", "\U0001fffe", "\U00010000", "\U0010ffff", "\ufffd")
    ),
    *(
        failed(f"6.6 {data!r}", frame(TEXT, data), 1007)
        for data in (
            *(b"\x80", b"\xbf", b"\xfe", b"\xff", b"\xc0\xaf", b"\xc1\xbf", b"\xe0\x80\xaf"),
            *(b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xf0\x80\x80\xaf", b"\xf4\x90\x80\x80"),
            *(
                b"\xf8\x88\x80\x80\x80",
                b"\xfc\x84\x80\x80\x80\x80",
                b"\xce",
                b"\xe1\xbd",
                b"\xf0\x90",
            ),
        )
    ),
]


CLOSING = [
    echoed("7.1.1 close", close(1000), 1000),
    echoed("7.1.2 twice", close(1000) * 2, 1000),
    echoed("7.1.3 ping behind it", close(1000) + frame(PING), 1000),
    echoed("7.1.4 text behind it", close(1000) + frame(TEXT, b"x"), 1000),
    echoed(
        "7.1.5 inside a message",
        frame(TEXT, b"a", fin=False) + close(1000) + frame(CONTINUATION, b"b"),
        1000,
    ),
    Case("7.3.1 empty", frame(CLOSE), code=1005, answer=b"", by_peer=True),
    failed("7.3.2 of one byte", frame(CLOSE, b"a")),
    echoed("7.3.4 with a reason", close(1000, b"Hello"), 1000, b"Hello"),
    echoed("7.3.5 with a reason of 123", close(1000, b"*" * 123), 1000, b"*" * 123),
    failed("7.3.6 with a reason of 124", close(1000, b"*" * 124)),
    failed("7.5.1 with an invalid reason", close(1000, INVALID), 1007),
    *(
        echoed(f"7.7 code {code}", close(code), code)
        for code in (*range(1000, 1004), *range(1007, 1014), 3000, 3999, 4000, 4999)
    ),
    *(
        failed(f"7.9 code {code}", close(code))
        for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535)
    ),
]


TOO_LARGE = [
    Case("9 at the limit", frame(BINARY, b"x" * MESSAGE_BYTES_MAX), (b"x" * MESSAGE_BYTES_MAX,)),
    failed("9 over the limit by one", header(BINARY, MESSAGE_BYTES_MAX + 1), 1009),
    failed("9 text over the limit", header(TEXT, MESSAGE_BYTES_MAX + 1), 1009),
    failed("2**63 bytes", header(BINARY, 2**63), 1009),
    failed("2**64 - 1 bytes", header(BINARY, 2**64 - 1), 1009),
    failed("2**63 - 1 bytes, unfinished", header(TEXT, 2**63 - 1, fin=False), 1009),
    Case(
        "9 at the limit over frames",
        fragments(TEXT, b"x" * (MESSAGE_BYTES_MAX - 1), b"y", b""),
        ("x" * (MESSAGE_BYTES_MAX - 1) + "y",),
    ),
    failed(
        "9 over the limit over frames",
        frame(TEXT, b"x" * MESSAGE_BYTES_MAX, fin=False) + header(CONTINUATION, 1),
        1009,
    ),
    failed(
        "a ping between does not reset the sum",
        frame(TEXT, b"x" * MESSAGE_BYTES_MAX, fin=False) + frame(PONG) + header(CONTINUATION, 1),
        1009,
    ),
    Case(
        "10.1 fragments at the limit",
        fragments(BINARY, *[b"x"] * FRAGMENTS_MAX),
        (b"x" * FRAGMENTS_MAX,),
    ),
    failed("fragments over the limit", fragments(TEXT, *[b"x"] * (FRAGMENTS_MAX + 1)), 1009),
    failed("empty fragments without end", fragments(TEXT, *[b""] * 99), 1009),
    Case("many messages of the largest size", frame(TEXT, b"x" * 60_000) * 3, ("x" * 60_000,) * 3),
    Case(
        "what came before the error is read",
        frame(TEXT, b"first") + header(BINARY, 2**40),
        ("first",),
        code=1009,
    ),
]


CASES = [*FRAMING, *PINGS, *RESERVED, *FRAGMENTATION, *UTF8, *CLOSING, *TOO_LARGE]
