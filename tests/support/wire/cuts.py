"""Bytes as a network may hand them over: in any pieces."""

from collections.abc import Sequence
from itertools import pairwise


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    """Cut bytes at places counted modulo their length."""
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(ends)]
