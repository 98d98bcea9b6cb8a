"""What a sidecar writes to Redis clients, read strictly."""

import re

_LINE = re.compile(rb"([^\r\n]*)\r\n")
_NUMBER = re.compile(rb"0|-?[1-9][0-9]{0,18}")
_RESP2, _RESP3 = frozenset(b"+-:$*"), frozenset(b"+-:$*_=%~>")
_TEXT, _AGGREGATE = frozenset(b"+-"), frozenset(b"*%~>")


def count_values(data: bytes, *, resp3: bool) -> int:
    """Return how many whole values these bytes are; anything else fails an assertion."""
    allowed = _RESP3 if resp3 else _RESP2
    at = found = 0
    missing = [0]  # values that each open aggregate lacks; below them the top, which lacks none
    while at < len(data):
        kind = data[at]
        assert kind in allowed, data[at : at + 40]
        line = _LINE.match(data, at + 1)
        assert line is not None, data[at : at + 40]
        at = line.end()
        found += len(missing) == 1
        missing[-1] -= len(missing) > 1
        if kind not in _TEXT:
            number = _number(line[1]) if kind != ord("_") else 0
            if kind in _AGGREGATE:
                assert number >= 0
                missing.append(number * (2 if kind == ord("%") else 1))
            elif kind in b"$=" and number != -1:
                assert number >= 0
                at += number + 2
                assert data[at - 2 : at] == b"\r\n", "a bulk has another length"
        while len(missing) > 1 and not missing[-1]:
            missing.pop()
    assert at == len(data) and len(missing) == 1, "the last value is not whole"
    return found


def _number(line: bytes) -> int:
    assert _NUMBER.fullmatch(line), line
    return int(line)
