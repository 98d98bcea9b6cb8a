"""Raw frames as a client sends them, and the frames of a server read strictly."""

import struct
from collections.abc import Iterator
from itertools import cycle

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # the answer to this key in RFC 6455, section 1.3
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MASK = b"\x37\xfa\x21\x3d"


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0) -> bytes:
    """Return one masked frame."""
    masked = bytes(byte ^ key for byte, key in zip(payload, cycle(MASK), strict=False))
    return header(opcode, len(payload), fin=fin, rsv=rsv) + MASK + masked


def header(
    opcode: int, length: int, *, fin: bool = True, rsv: int = 0, form: int = 0, mask: int = 0x80
) -> bytes:
    """Return a frame's header up to the masking key; `form` is how many bytes hold the length."""
    first = fin << 7 | rsv << 4 | opcode
    form = form or (1 if length < 126 else 3 if length < 65_536 else 9)
    if form == 1:
        return struct.pack("!BB", first, mask | length)
    if form == 3:
        return struct.pack("!BBH", first, mask | 126, length)
    return struct.pack("!BBQ", first, mask | 127, length)


def close(code: int, reason: bytes = b"") -> bytes:
    """Return a client's Close frame."""
    return frame(CLOSE, struct.pack("!H", code) + reason)


def sent_frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield opcode and payload of each frame of a server; it fragments nothing, masks nothing."""
    while data:
        assert data[0] & 0xF0 == 0x80
        assert data[1] < 128
        start, length = 2, data[1]
        if length == 126:
            start, length = 4, int.from_bytes(data[2:4])
            assert length > 125
        elif length == 127:
            start, length = 10, int.from_bytes(data[2:10])
            assert length > 65_535
        assert data[0] & 0x08 == 0 or length < 126
        assert len(data) >= start + length
        yield data[0] & 0x0F, data[start : start + length]
        data = data[start + length :]
