"""Patterns: the verdict of Redis, byte for byte, and bounded work whatever the pattern.

The live tests ask a real Redis for its verdicts; here it is a port of its own function.
"""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fanout.core.glob import _parse, compile_pattern
from fanout.values.names import Kind
from tests.support.wire.limits import default_limits


def signed(byte: int) -> int:
    """Return a byte as C compares it."""
    return byte - 256 if byte > 127 else byte


def redis_match(pattern: bytes, text: bytes) -> bool:
    """Match as `stringmatchlen` in Redis 7.0, src/util.c."""
    p = t = 0
    while p < len(pattern) and t < len(text):
        match pattern[p : p + 1]:
            case b"*":
                while pattern[p + 1 : p + 2] == b"*":
                    p += 1
                rest = pattern[p + 1 :]
                return not rest or any(redis_match(rest, text[at:]) for at in range(t, len(text)))
            case b"?":
                pass
            case b"[":
                p, fits = redis_class(pattern, p + 1, text[t])
                if not fits:
                    return False
            case b"\\" if p + 1 < len(pattern):
                p += 1
                if pattern[p] != text[t]:
                    return False
            case _:
                if pattern[p] != text[t]:
                    return False
        p += 1
        t += 1
    if t == len(text):
        return not pattern[p:].strip(b"*") and (bool(text) or not pattern)
    return False


def redis_class(pattern: bytes, p: int, byte: int) -> tuple[int, bool]:
    """Match a class; return where it ends and whether the byte fits."""
    inverted = pattern[p : p + 1] == b"^"
    p += inverted
    fits = False
    while p < len(pattern) and pattern[p : p + 1] != b"]":
        if pattern[p : p + 1] == b"\\" and p + 1 < len(pattern):
            p += 1
            fits |= pattern[p] == byte
        elif pattern[p + 1 : p + 2] == b"-" and p + 2 < len(pattern):
            low, high = sorted((signed(pattern[p]), signed(pattern[p + 2])))
            fits |= low <= signed(byte) <= high
            p += 2
        else:
            fits |= pattern[p] == byte
        p += 1
    return p, fits is not inverted


glyphs = st.sampled_from(
    [b"a", b"b", b"*", b"*", b"?", b"[", b"]", b"^", b"-", b"\\", b"\0", b"\xff"]
)
texts = st.lists(st.sampled_from([b"a", b"b", b"]", b"-", b"^", b"\\", b"\0", b"\xff"]), max_size=6)


@given(st.lists(glyphs, max_size=9).map(b"".join), texts.map(b"".join))
def test_the_verdict_is_that_of_redis(pattern: bytes, text: bytes) -> None:
    """Quirks included."""
    assert compile_pattern(pattern)(text) is redis_match(pattern, text)


@pytest.mark.parametrize(
    "pattern",
    [
        b"*a" * 512,
        b"*a" * 511 + b"*b",
        b"a*" * 512,
        b"*" * 1024,
        b"*" + b"?" * 1022 + b"b",
        b"*[ab]" * 204 + b"*c",
        b"[" * 1024,
        b"\\" * 1024,
        b"[^a]" * 256,
    ],
    ids=lambda pattern: repr(pattern[:6]),
)
def test_no_pattern_takes_for_ever(pattern: bytes) -> None:
    """With backtracking most of these would not end in the age of the universe (CVE-2022-36021)."""
    match = compile_pattern(pattern)
    for text in (b"a" * 1024, b"ab" * 512, b"a" * 1023 + b"b", b"\\" * 1024, b""):
        match(text)


@example(b"[^a]")
@given(st.lists(glyphs | st.binary(min_size=1, max_size=1), max_size=60).map(b"".join))
def test_what_is_compiled_is_not_much_longer_than_the_pattern(pattern: bytes) -> None:
    """A class that names few bytes is short, also when it means all the others."""
    assert sum(len(source) for source, _ in _parse(pattern)) <= 10 * len(pattern)


def test_a_client_has_a_bounded_number_of_patterns() -> None:
    """A thousand of them are refused as a whole, at the limits of a client by default."""
    names = [b"*a%d" % number for number in range(1000)]
    refusal = default_limits().check_subscribe(Kind.PATTERN, (), names)

    assert refusal is not None and refusal.code == "too_many_subscriptions"
