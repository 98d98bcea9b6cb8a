"""Websocket frames: written once for many clients, and their announced lengths read ahead.

wsproto delivers a data frame piece by piece and knows no limit. Here the lengths are added up as
the headers announce them, so that what is too large is refused before any of it is kept.
"""

import struct

_REASON_BYTES_MAX = 123
_LENGTH_7_MAX = 125
_LENGTH_16_MAX = 65_535
_HEAD_BYTES = {126: 4, 127: 10}
"""Bytes of a header up to its length, by the first length; else two."""
_FIN, _CONTROL = 0x80, 0x08
_MASK_BYTES = 4
_WHOLE_TEXT, _MASKED, _SIXTEEN_BITS = 0x81, 0x80, 126
_SMALLEST_BYTES = 6
"""Of a frame of a client: its two first bytes and the mask."""


def text_frame(data: bytes) -> bytes:
    """Return one whole unmasked text frame; `data` must be UTF-8."""
    return _frame(0x81, data)


def close_frame(code: int, reason: str) -> bytes:
    """Return a Close frame; the reason is cut to what fits."""
    text = reason.encode()[:_REASON_BYTES_MAX].decode("utf-8", "ignore").encode()
    return _frame(0x88, struct.pack("!H", code) + text)


def _frame(first: int, data: bytes) -> bytes:
    length = len(data)
    if length <= _LENGTH_7_MAX:
        return bytes((first, length)) + data
    if length <= _LENGTH_16_MAX:
        return struct.pack("!BBH", first, 126, length) + data
    return struct.pack("!BBQ", first, 127, length) + data


def whole_text(data: bytes, at: int, bytes_max: int) -> tuple[str, int] | None:
    """Read a whole text message of one masked frame at `at`; return it and where it ends.

    None when it is anything else, larger, not whole, or wrong in any way: that is for wsproto to
    judge. Most frames of most clients are like this, and wsproto takes ten times as long.
    """
    if len(data) < at + _SMALLEST_BYTES or data[at] != _WHOLE_TEXT:
        return None
    length = data[at + 1] - _MASKED
    mask_at = at + 2
    if length == _SIXTEEN_BITS:
        length = int.from_bytes(data[at + 2 : at + 4])
        mask_at = at + 4
        if length <= _LENGTH_7_MAX:
            return None
    elif not 0 <= length <= _LENGTH_7_MAX:
        return None
    start = mask_at + _MASK_BYTES
    end = start + length
    if length > bytes_max or end > len(data):
        return None
    mask = data[mask_at:start] * (length // _MASK_BYTES + 1)
    number = int.from_bytes(data[start:end]) ^ int.from_bytes(mask[:length])
    try:
        return number.to_bytes(length).decode(), end
    except UnicodeDecodeError:
        return None


class FrameMeter:
    """Follows the frames of one client and adds up what their headers announce.

    It judges nothing but size: headers that are wrong in another way are passed on for wsproto to
    refuse. Its verdict falls on the same byte however the bytes are cut.
    """

    __slots__ = (
        "_announced",
        "_fragments",
        "_fragments_max",
        "_head",
        "_last",
        "_left",
        "message_bytes_max",
    )

    def __init__(self, *, message_bytes_max: int, fragments_max: int) -> None:
        self.message_bytes_max = message_bytes_max
        self._fragments_max = fragments_max
        self._head = bytearray()  # of the frame that begins
        self._left = 0  # bytes of the present frame still to come behind its header
        self._last = True  # whether a message ends with the present frame
        self._announced = 0  # of the present message, over all its frames so far
        self._fragments = 0

    @property
    def idle(self) -> bool:
        """Whether a new message is to begin: none has begun, nor a frame."""
        return self._last and not self._left and not self._head

    def measure(self, data: bytes, at: int = 0) -> tuple[int, str]:
        """Return up to where `data` may pass from `at` on, and why no further.

        Without a reason that is the end of a message, behind which there may be another limit, or
        of the data. The byte that completes a refused length is the first that may not pass.
        """
        size, head = len(data), self._head
        while at < size:
            if self._left:
                step = min(self._left, size - at)
                self._left -= step
                at += step
                if self._last and not self._left:
                    return at, ""
                continue
            head.append(data[at])
            if len(head) >= 2 and len(head) == _HEAD_BYTES.get(head[1] & 0x7F, 2):  # noqa: PLR2004
                if refusal := self._announce(head):
                    return at, refusal
                head.clear()
            at += 1
        return size, ""

    def _announce(self, head: bytearray) -> str:
        """Take a whole header; return why it is refused, if it is."""
        length = int.from_bytes(head[2:]) if len(head) > 2 else head[1] & 0x7F  # noqa: PLR2004
        self._left = length + (_MASK_BYTES if head[1] & 0x80 else 0)
        self._last = head[0] & (_FIN | _CONTROL) == _FIN
        if head[0] & _CONTROL:
            return ""
        if head[0] & 0x0F:
            self._announced = self._fragments = 0
        self._announced += length
        self._fragments += 1
        if self._announced > self.message_bytes_max:
            return f"a message may have {self.message_bytes_max} bytes"
        if self._fragments > self._fragments_max:
            return f"a message may have {self._fragments_max} fragments"
        return ""
