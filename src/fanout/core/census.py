"""The census: count the clients of the whole fleet. Every sidecar counts its own clients.

A question goes to all sidecars through one node. The node's reply to PUBLISH is the number of
listeners. A question is settled when that many have answered, or at its timeout; a sidecar that
did not answer in time is missing from the sum. A question about many names is split into pieces,
each with a number.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import attrs

from fanout.core.glob import compile_pattern
from fanout.values.control import CensusAnswer
from fanout.values.names import SidecarId, Space
from fanout.values.requests import Question

NAMES_BYTES_MAX = 8192
"""Bytes of names in one piece of a question; at worst six times as much as JSON."""


class Table(Protocol):
    """The part of the dispatch table that the census reads."""

    def names(self, space: Space) -> Iterator[bytes]:
        """Yield the names that clients subscribe to."""

    def subscribers(self, space: Space, name: bytes) -> int:
        """Count the clients that subscribe to a name."""


def count(table: Table, question: Question) -> dict[bytes, int]:
    """Return the counts of one sidecar; names without subscribers are left out."""
    if question.names is not None:
        found: Iterator[bytes] = iter(question.names)
    else:
        found = table.names(question.space)
        if question.glob is not None:
            found = filter(compile_pattern(question.glob), found)
    counts = {name: table.subscribers(question.space, name) for name in found}
    return {name: number for name, number in counts.items() if number}


def pieces(question: Question) -> list[Question]:
    """Split a question into pieces that each fit into a message."""
    if question.names is None:
        return [question]
    found: list[list[bytes]] = [[]]
    size = 0
    for name in dict.fromkeys(question.names):
        size += len(name) + 1
        if size > NAMES_BYTES_MAX and found[-1]:
            found.append([])
            size = len(name) + 1
        found[-1].append(name)
    return [attrs.evolve(question, names=tuple(names)) for names in found]


@attrs.define(eq=False, slots=True)
class _Asked:
    """A question of a client, until all its pieces are settled."""

    counts: dict[bytes, int]
    done: Callable[[Mapping[bytes, int]], None]
    open: int


@attrs.define(eq=False, slots=True)
class _Piece:
    """A piece that was sent and is not settled."""

    asked: _Asked
    deadline: float
    expected: int | None = None  # other sidecars that received it; None before the node's reply
    missing: dict[SidecarId, set[int]] = attrs.field(factory=dict)  # parts of incomplete answers

    @property
    def answered(self) -> bool:
        """Whether all receivers have answered completely."""
        whole = sum(not parts for parts in self.missing.values())
        return self.expected is not None and whole >= self.expected


class Questions:
    """The open questions of one sidecar."""

    def __init__(self, *, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._pieces: dict[int, _Piece] = {}  # oldest first
        self._number = 0

    def __len__(self) -> int:
        return len(self._pieces)

    def begin(
        self,
        own: Mapping[bytes, int],
        parts: int,
        done: Callable[[Mapping[bytes, int]], None],
        now: float,
    ) -> list[int]:
        """Open a question of `parts` pieces and return their numbers.

        `own` are the counts of this sidecar. `done` is called once, when the last piece is settled.
        """
        asked = _Asked(dict(own), done, parts)
        numbers = list(range(self._number + 1, self._number + 1 + parts))
        self._number += parts
        for number in numbers:
            self._pieces[number] = _Piece(asked, now + self._timeout_seconds)
        return numbers

    def heard(self, number: int, others: int) -> None:
        """Record how many other sidecars received a piece."""
        piece = self._pieces.get(number)
        if piece is not None:
            piece.expected = others
            self._settle(number, piece)

    def answered(self, answer: CensusAnswer) -> None:
        """Add one part of an answer; late and duplicate parts are ignored."""
        piece = self._pieces.get(answer.number)
        if piece is None:
            return
        missing = piece.missing.setdefault(answer.sidecar, set(range(answer.parts)))
        if answer.part not in missing:
            return
        missing.discard(answer.part)
        counts = piece.asked.counts
        for name, number in answer.counts.items():
            counts[name] = counts.get(name, 0) + number
        self._settle(answer.number, piece)

    def expire(self, now: float) -> None:
        """Settle the pieces that timed out."""
        for number, piece in list(self._pieces.items()):
            if piece.deadline > now:
                return
            self._close(number, piece)

    def next_deadline(self) -> float:
        """Return the time at which to call `expire`; infinity when idle."""
        return next((piece.deadline for piece in self._pieces.values()), float("inf"))

    def _settle(self, number: int, piece: _Piece) -> None:
        if piece.answered:
            self._close(number, piece)

    def _close(self, number: int, piece: _Piece) -> None:
        del self._pieces[number]
        piece.asked.open -= 1
        if not piece.asked.open:
            piece.asked.done(piece.asked.counts)
