"""Redis' pattern matching, byte for byte.

Follows `stringmatchlen` in Redis' src/util.c, quirks included: `[` without `]` takes the rest of
the pattern as the class; a range may be reversed, and `]` or a backslash may be its end; bytes
above 0x7f compare as signed chars in a range; a backslash at the very end stands for itself;
nothing but the empty pattern matches the empty string. One thing is left out: a Redis with the fix
for CVE-2024-31228 gives up on patterns with more than a thousand separate stars.

Every part of a pattern but `*` matches exactly one byte. So a pattern is a row of pieces of fixed
length between stars, and matching is: the first piece at the start, the last at the end, the
others from left to right, each at the first place where it fits. No choice is ever taken back, so
the time is at worst the product of the two lengths, whatever the pattern.
"""

import re
from collections.abc import Callable

Matcher = Callable[[bytes], bool]

_STAR, _ANY, _OPEN, _CLOSE, _ESCAPE, _NOT, _DASH = b"*?[]\\^-"
_PREFIX = re.compile(rb"([^*?\[\\]*+)\*+", re.DOTALL)
_EVERY_BYTE = (1 << 256) - 1


def compile_pattern(pattern: bytes) -> Matcher:
    """Return a function that tells whether a channel matches `pattern`."""
    if not pattern:
        return lambda text: not text
    if plain := _PREFIX.fullmatch(pattern):
        prefix = plain[1]
        return lambda text: bool(text) and text.startswith(prefix)
    pieces = _parse(pattern)
    if len(pieces) > 1:
        return _starred(pieces)
    whole = re.compile(pieces[0][0], re.DOTALL).fullmatch
    return lambda text: whole(text) is not None


def _starred(pieces: list[tuple[bytes, int]]) -> Matcher:
    (first, first_length), *middle, (last, last_length) = pieces
    first_match = re.compile(first, re.DOTALL).match
    last_match = re.compile(last, re.DOTALL).match
    searches = [re.compile(source, re.DOTALL).search for source, length in middle if length]
    shortest = first_length + last_length

    def match(text: bytes) -> bool:
        end = len(text) - last_length
        if not text or len(text) < shortest or first_match(text) is None:
            return False
        if last_match(text, end) is None:
            return False
        position = first_length
        for search in searches:
            found = search(text, position, end)
            if found is None:
                return False
            position = found.end()
        return True

    return match


def _parse(pattern: bytes) -> list[tuple[bytes, int]]:
    """Split at the stars; return each piece as a regular expression and its length in bytes."""
    pieces: list[tuple[bytes, int]] = []
    source, length = bytearray(), 0
    at = 0
    while at < len(pattern):
        byte = pattern[at]
        at += 1
        if byte == _STAR:
            pieces.append((bytes(source), length))
            source, length = bytearray(), 0
            continue
        if byte == _ANY:
            source += b"."
        elif byte == _OPEN:
            wanted, at = _parse_class(pattern, at)
            source += _class_source(wanted)
        else:
            if byte == _ESCAPE and at < len(pattern):
                byte = pattern[at]
                at += 1
            source += re.escape(bytes((byte,)))
        length += 1
    pieces.append((bytes(source), length))
    return pieces


def _parse_class(pattern: bytes, at: int) -> tuple[int, int]:
    """Read a class behind its `[`.

    Returns:
        The bytes it matches, as a number with the bits of their values set, and where the pattern
        goes on.

    """
    inverted = pattern[at : at + 1] == b"^"
    at += inverted
    wanted = 0
    while at < len(pattern) and pattern[at] != _CLOSE:
        left = len(pattern) - at
        if pattern[at] == _ESCAPE and left >= 2:  # noqa: PLR2004
            at += 1
            wanted |= 1 << pattern[at]
        elif left >= 3 and pattern[at + 1] == _DASH:  # noqa: PLR2004
            wanted |= _range(pattern[at], pattern[at + 2])
            at += 2
        else:
            wanted |= 1 << pattern[at]
        at += 1
    return wanted ^ _EVERY_BYTE if inverted else wanted, at + 1


def _range(one: int, other: int) -> int:
    low, high = sorted((one, other))
    if low <= 0x7F < high:  # noqa: PLR2004
        # As signed chars `high` is negative: the range runs from it over 0xff and 0x00 to `low`.
        return _span(high, 0xFF) | _span(0, low)
    return _span(low, high)


def _span(low: int, high: int) -> int:
    return (1 << (high + 1)) - (1 << low)


def _class_source(wanted: int) -> bytes:
    """Write a class as runs of bytes: one by one, a class takes `re` very long to compile."""
    if not wanted:
        return b"(?!)."  # matches nothing, as long as every other piece: one byte
    source = b""
    while wanted:
        lowest = wanted & -wanted
        beyond = wanted + lowest  # the lowest run of bits carries into the bit behind it
        run_end = beyond & ~wanted
        source += rb"\x%02x-\x%02x" % (lowest.bit_length() - 1, run_end.bit_length() - 2)
        wanted &= beyond
    return b"[" + source + b"]"
