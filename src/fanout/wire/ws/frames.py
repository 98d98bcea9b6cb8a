"""Websocket frames: encoding, and checks of the announced lengths.

wsproto delivers a data frame piece by piece and has no limit. Here the lengths in the headers are
added up, so that a message that is too large is refused before any part of it is stored.
"""

import struct

_REASON_BYTES_MAX = 123
_LENGTH_7_MAX = 125
_LENGTH_16_MAX = 65_535
_HEAD_BYTES = {126: 4, 127: 10}
"""Bytes of a header up to its length, by the first length byte; two otherwise."""
_FIN, _CONTROL = 0x80, 0x08
_MASK_BYTES = 4
_WHOLE_TEXT, _MASKED, _SIXTEEN_BITS = 0x81, 0x80, 126
_SMALLEST_BYTES = 6
"""The shortest header of a client: two bytes and the mask."""


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
    """Decode a whole text message in one masked frame at `at`; return it and where it ends.

    Return None for anything else, also if it is larger, incomplete or invalid: wsproto decides
    then. Most frames are of this form, and wsproto takes ten times as long.
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
    """Adds up the lengths that the frame headers of one client announce.

    It checks size only: headers that are invalid in another way are passed to wsproto, which
    refuses them. A message is refused at the same byte however the bytes are split.
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
        self._left = 0  # payload bytes of the current frame that are still to come
        self._last = True  # whether the current frame ends a message
        self._announced = 0  # of the current message, over its frames so far
        self._fragments = 0

    @property
    def idle(self) -> bool:
        """Whether no message and no frame has begun."""
        return self._last and not self._left and not self._head

    def measure(self, data: bytes, at: int = 0) -> tuple[int, str]:
        """Return the end of the bytes of `data` that may pass from `at` on, and why no more may.

        Without a reason this is the end of a message, after which the limit may differ, or of the
        data. The byte that completes a refused length is the first that may not pass.
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
        """Check a whole header; return why it is refused, or an empty string."""
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
            return f"message exceeds {self.message_bytes_max} bytes"
        if self._fragments > self._fragments_max:
            return f"message exceeds {self._fragments_max} fragments"
        return ""
