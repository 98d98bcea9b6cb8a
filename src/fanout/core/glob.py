"""Glob-style pattern matching, the same as in Redis byte for byte.

It follows `stringmatchlen` in Redis' src/util.c, quirks included: `[` without `]` takes the rest of
the pattern as the class; a range may be reversed; bytes above 0x7f compare as signed chars in a
range; a backslash at the very end stands for itself; only the empty pattern matches the empty
string.

Every part of a pattern except `*` matches exactly one byte. So a pattern is a sequence of pieces
of fixed length, separated by stars. The first piece must match at the start, the last at the end,
and the others from left to right, each at the first position where it matches. That takes linear
time in practice, and at worst pattern length times text length.
"""

import re
from collections.abc import Callable, Iterator

Matcher = Callable[[bytes], bool]

_STAR, _ANY, _OPEN, _CLOSE, _ESCAPE, _NOT, _DASH = b"*?[]\\^-"


def compile_pattern(pattern: bytes) -> Matcher:
    """Return a function that returns whether a channel matches `pattern`."""
    pieces = _parse(pattern)
    if len(pieces) == 1:
        whole = re.compile(pieces[0][0], re.DOTALL).fullmatch
        if not pattern:
            return lambda text: not text
        return lambda text: bool(text) and whole(text) is not None
    if len(pieces) == 2 and pattern[:-1] == re.sub(rb"[*?\[\\]", b"", pattern[:-1]):  # noqa: PLR2004
        prefix = pattern[:-1]
        return lambda text: bool(text) and text.startswith(prefix)
    return _starred(pieces)


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
        position = first_length
        for search in searches:
            found = search(text, position, end)
            if found is None:
                return False
            position = found.end()
        return position <= end and last_match(text, end) is not None

    return match


def _parse(pattern: bytes) -> list[tuple[bytes, int]]:
    """Split a pattern at the stars; return the regular expression and byte length of each piece."""
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


def _parse_class(pattern: bytes, at: int) -> tuple[frozenset[int], int]:
    """Parse a class after its `[`; return the bytes it matches and the position after it."""
    inverted = pattern[at : at + 1] == b"^"
    at += inverted
    wanted: set[int] = set()
    while at < len(pattern) and pattern[at] != _CLOSE:
        left = len(pattern) - at
        if pattern[at] == _ESCAPE and left >= 2:  # noqa: PLR2004
            at += 1
            wanted.add(pattern[at])
        elif left >= 3 and pattern[at + 1] == _DASH:  # noqa: PLR2004
            low, high = sorted((_signed(pattern[at]), _signed(pattern[at + 2])))
            wanted.update(value & 0xFF for value in range(low, high + 1))
            at += 2
        else:
            wanted.add(pattern[at])
        at += 1
    if inverted:
        wanted = set(range(256)) - wanted
    return frozenset(wanted), at + 1


def _class_source(wanted: frozenset[int]) -> bytes:
    if not wanted:
        return b"(?!)."  # never matches; one byte long, as any other part
    return b"[" + b"".join(rb"\x%02x-\x%02x" % ends for ends in _ranges(wanted)) + b"]"


def _ranges(wanted: frozenset[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and last byte of each run. Listing each byte took 0.1 s for 256 classes."""
    first = last = min(wanted)
    for value in sorted(wanted):
        if value > last + 1:
            yield first, last
            first = value
        last = value
    yield first, last


def _signed(byte: int) -> int:
    return byte - 256 if byte > 0x7F else byte  # noqa: PLR2004
