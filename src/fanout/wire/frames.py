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
        self._last = False  # whether a message ends with the present frame
        self._announced = 0  # of the present message, over all its frames so far
        self._fragments = 0

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
