"""The messages in which sidecars count their clients together, as JSON.

Names are arbitrary bytes; in JSON each byte is the character with the same number. Every client with
access to a node can publish there, so a decoder returns None for anything that it cannot decode.
"""

import json
from collections.abc import Mapping
from typing import Any

from fanout.values.control import CensusAnswer, CensusQuestion
from fanout.values.names import NAME, SidecarId, Space
from fanout.values.requests import Question

MESSAGE_BYTES_MAX = 131_072
"""Larger messages are ignored."""

PART_BYTES_MAX = 65_536
"""The approximate size of a part of an answer."""

PARTS_MAX = 64
"""Parts of one answer; names beyond them (4 MiB) are left out of the census."""

_NAME_CHARACTERS_MAX = 65_536
_NUMBER_MAX = 2**53


def encode_question(asked: CensusQuestion) -> bytes:
    """Encode a question."""
    question = asked.question
    data: dict[str, Any] = {
        "sidecar": asked.sidecar,
        "number": asked.number,
        "space": question.space.value,
    }
    if question.glob is not None:
        data["glob"] = _text(question.glob)
    if question.names is not None:
        data["names"] = [_text(name) for name in question.names]
    return json.dumps(data, separators=(",", ":")).encode()


def decode_question(raw: bytes) -> CensusQuestion | None:
    """Decode a question; return None if it is invalid."""
    try:
        data = _object(raw)
        names = data.get("names")
        if names is not None and not isinstance(names, list):
            return None
        question = Question(
            Space(data["space"]),
            None if names is None else tuple(_name(name) for name in names),
            _name(data["glob"]) if "glob" in data else None,
        )
        return CensusQuestion(_sidecar(data["sidecar"]), _number(data["number"]), question)
    except (ValueError, KeyError, RecursionError):
        return None


def encode_answer(sidecar: SidecarId, number: int, counts: Mapping[bytes, int]) -> list[bytes]:
    """Encode an answer in up to `PARTS_MAX` parts."""
    parts: list[dict[str, int]] = [{}]
    size = 0
    for name, count in counts.items():
        text = _text(name)
        size += len(json.dumps(text)) + 12
        if size > PART_BYTES_MAX and parts[-1]:
            if len(parts) == PARTS_MAX:
                break
            parts.append({})
            size = len(json.dumps(text)) + 12
        parts[-1][text] = count
    head = {"sidecar": sidecar, "number": number, "parts": len(parts)}
    return [
        json.dumps({**head, "part": place, "counts": part}, separators=(",", ":")).encode()
        for place, part in enumerate(parts)
    ]


def decode_answer(raw: bytes) -> CensusAnswer | None:
    """Decode one part of an answer; return None if it is invalid."""
    try:
        data = _object(raw)
        part, parts = _number(data["part"]), _number(data["parts"])
        counts = data["counts"]
        if not part < parts <= PARTS_MAX or not isinstance(counts, dict):
            return None
        return CensusAnswer(
            _sidecar(data["sidecar"]),
            _number(data["number"]),
            part,
            parts,
            {_name(name): _number(count) for name, count in counts.items()},
        )
    except (ValueError, KeyError, RecursionError):
        return None


def _text(name: bytes) -> str:
    return name.decode("latin-1")


def _object(raw: bytes) -> dict[str, Any]:
    data = json.loads(raw) if len(raw) <= MESSAGE_BYTES_MAX else None
    if not isinstance(data, dict):
        raise ValueError("not an object")  # noqa: TRY004 - a wrong value of a peer
    return data


def _name(value: Any) -> bytes:
    if not isinstance(value, str) or len(value) > _NAME_CHARACTERS_MAX:
        raise ValueError("not a name")
    return value.encode("latin-1")


def _sidecar(value: Any) -> SidecarId:
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise ValueError("not a sidecar")
    return SidecarId(value)


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value < _NUMBER_MAX:
        raise ValueError("not a whole number")
    return value
