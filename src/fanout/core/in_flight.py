"""The commands that one Redis has not answered yet. Replies match commands first in, first out.

Commands that were queued together are answered together: a pipeline of a client costs one entry
here, not one for each of its messages.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from fanout.errors import LinkLost

Answer = Any
"""A parsed reply, or `LinkLost` if the link was lost before the reply."""

OnAnswers = Callable[[list[Answer]], None]


class _Commands:
    """Commands whose replies are passed on together."""

    __slots__ = ("answers", "ends", "on_answers", "start")

    def __init__(self, start: int, ends: Sequence[int], on_answers: OnAnswers) -> None:
        self.start = start
        self.ends = ends
        self.on_answers = on_answers
        self.answers: list[Answer] = []


class _Pushes:
    """A command that Redis answers with one push for each of its names."""

    __slots__ = ("missing",)

    def __init__(self, missing: int) -> None:
        self.missing = missing


class InFlight:
    """The queue of unanswered commands, oldest first. Its length is that of the queue."""

    __slots__ = ("_queued", "_waiting", "answered")

    def __init__(self) -> None:
        self._waiting: deque[_Commands | _Pushes] = deque()
        self._queued = 0  # bytes since the start: a command's offset in the byte stream
        self.answered = 0
        """Answers since the start; does not grow while Redis hangs."""

    def __len__(self) -> int:
        return len(self._waiting)

    def expect(self, ends: Sequence[int], on_answers: OnAnswers) -> None:
        """Expect a reply to each of the queued commands, which end at the offsets `ends`.

        `on_answers` is called once, with one answer for each command.
        """
        self._waiting.append(_Commands(self._queued, ends, on_answers))
        self._queued += ends[-1]

    def expect_pushes(self, size: int, count: int) -> None:
        """Expect `count` pushes in answer to a command of `size` bytes."""
        self._waiting.append(_Pushes(count))
        self._queued += size

    def take(self, replies: list[Answer]) -> None:
        """Match replies, in the order they were read, to commands.

        Raises:
            LinkLost: a reply without a command, or a subscription was refused.

        """
        waiting = self._waiting
        at, size = 0, len(replies)
        while at < size:
            head = waiting[0] if waiting else None
            if not isinstance(head, _Commands):
                what = "unexpected reply" if head is None else "subscription refused"
                raise LinkLost(f"{what}: {str(replies[at])[:64]!r}")
            until = at + len(head.ends) - len(head.answers)
            head.answers += replies[at:until]
            if until > size:
                break
            at = until
            waiting.popleft()
            head.on_answers(head.answers)
        self.answered += size

    def confirm(self) -> None:
        """Record one subscription push, for the oldest command.

        Raises:
            LinkLost: the push was not requested: Redis ended a subscription.

        """
        head = self._waiting[0] if self._waiting else None
        if not isinstance(head, _Pushes):
            raise LinkLost("subscription withdrawn")
        head.missing -= 1
        if not head.missing:
            self._waiting.popleft()
            self.answered += 1

    def lose(self, reason: str, handed: int) -> None:
        """Answer all open commands with `LinkLost`. `handed` queued bytes were given to the kernel.

        Redis can have executed a command only if the kernel has its last byte.
        """
        waiting, self._waiting = self._waiting, deque()
        for each in waiting:
            if isinstance(each, _Commands):
                unanswered = each.ends[len(each.answers) :]
                each.on_answers(
                    each.answers
                    + [LinkLost(reason, written=each.start + end <= handed) for end in unanswered]
                )
