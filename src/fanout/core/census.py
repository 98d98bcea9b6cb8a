"""Counts the clients of the whole fleet: every sidecar counts its own, the one that asks adds up.

A question goes to all sidecars through one node, which also tells how many there are that listen;
it is settled when so many have answered, or when its time is over. Whoever did not answer by then
is missing from the sum. A question about many names is asked in pieces, each with its number.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import attrs

from fanout.core.glob import compile_pattern
from fanout.values.control import CensusAnswer
from fanout.values.names import SidecarId, Space
from fanout.values.requests import Question

NAMES_BYTES_MAX = 8192
"""Names in one piece of a question; six times as much at worst once they are JSON."""


class Table(Protocol):
    """What is asked of the dispatch table."""

    def names(self, space: Space) -> Iterator[bytes]:
        """Yield what clients subscribe to."""

    def subscribers(self, space: Space, name: bytes) -> int:
        """Count the clients that subscribe to a name."""


def count(table: Table, question: Question) -> dict[bytes, int]:
    """Answer a question for one sidecar; names that nobody subscribes to are left out."""
    if question.names is not None:
        found: Iterator[bytes] = iter(question.names)
    else:
        found = table.names(question.space)
        if question.glob is not None:
            found = filter(compile_pattern(question.glob), found)
    counts = {name: table.subscribers(question.space, name) for name in found}
    return {name: number for name, number in counts.items() if number}


def pieces(question: Question) -> list[Question]:
    """Cut a question into pieces that fit a message each."""
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
    """What a client wants to know, until all its pieces are settled."""

    counts: dict[bytes, int]
    done: Callable[[Mapping[bytes, int]], None]
    open: int


@attrs.define(eq=False, slots=True)
class _Piece:
    """A piece that was asked and is not settled."""

    asked: _Asked
    deadline: float
    expected: int | None = None  # other sidecars that heard it; None before the node has said
    missing: dict[SidecarId, set[int]] = attrs.field(factory=dict)  # parts of answers begun

    @property
    def answered(self) -> bool:
        """Whether everybody who heard it has answered whole."""
        whole = sum(not parts for parts in self.missing.values())
        return self.expected is not None and whole >= self.expected


class Questions:
    """The open questions of one sidecar. Times are given; nothing here waits."""

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
        """Open a question of so many pieces, answered for our own clients; return their numbers.

        `done` is called once, when the last piece is settled.
        """
        asked = _Asked(dict(own), done, parts)
        numbers = list(range(self._number + 1, self._number + 1 + parts))
        self._number += parts
        for number in numbers:
            self._pieces[number] = _Piece(asked, now + self._timeout_seconds)
        return numbers

    def heard(self, number: int, others: int) -> None:
        """Take how many other sidecars heard a piece."""
        piece = self._pieces.get(number)
        if piece is not None:
            piece.expected = others
            self._settle(number, piece)

    def answered(self, answer: CensusAnswer) -> None:
        """Take one part of an answer; what is late, or came twice, is ignored."""
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
        """Settle what has waited long enough."""
        for number, piece in list(self._pieces.items()):
            if piece.deadline > now:
                return
            self._close(number, piece)

    def next_deadline(self) -> float:
        """Return when `expire` has something to do; infinity when idle."""
        return next((piece.deadline for piece in self._pieces.values()), float("inf"))

    def _settle(self, number: int, piece: _Piece) -> None:
        if piece.answered:
            self._close(number, piece)

    def _close(self, number: int, piece: _Piece) -> None:
        del self._pieces[number]
        piece.asked.open -= 1
        if not piece.asked.open:
            piece.asked.done(piece.asked.counts)
