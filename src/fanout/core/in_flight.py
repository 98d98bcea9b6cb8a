"""The commands that one Redis has yet to answer; replies are matched first in, first out.

Commands that were queued together are answered together: what a client sends in one go costs one
entry here, not one for each of its messages.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from fanout.errors import LinkLost

Answer = Any
"""A reply as it was read, or `LinkLost` when there will be none."""

OnAnswers = Callable[[list[Answer]], None]


class _Commands:
    """Commands that are answered together."""

    __slots__ = ("answers", "ends", "on_answers", "start")

    def __init__(self, start: int, ends: Sequence[int], on_answers: OnAnswers) -> None:
        self.start = start
        self.ends = ends
        self.on_answers = on_answers
        self.answers: list[Answer] = []


class _Pushes:
    """A command that Redis answers with pushes, one for each of its names."""

    __slots__ = ("missing",)

    def __init__(self, missing: int) -> None:
        self.missing = missing


class InFlight:
    """What waits for its answer, oldest first. Its length is that of the queue."""

    __slots__ = ("_queued", "_waiting", "answered")

    def __init__(self) -> None:
        self._waiting: deque[_Commands | _Pushes] = deque()
        self._queued = 0  # bytes ever queued: a command's place in the stream of bytes
        self.answered = 0
        """Answers taken since the start; it stands still while Redis does."""

    def __len__(self) -> int:
        return len(self._waiting)

    def expect(self, ends: Sequence[int], on_answers: OnAnswers) -> None:
        """Expect a reply to each of the commands that were queued, which end at `ends`.

        `on_answers` is called once, with as many answers.
        """
        self._waiting.append(_Commands(self._queued, ends, on_answers))
        self._queued += ends[-1]

    def expect_pushes(self, size: int, count: int) -> None:
        """Expect so many pushes in answer to a command of `size` bytes."""
        self._waiting.append(_Pushes(count))
        self._queued += size

    def take(self, replies: list[Answer]) -> None:
        """Take replies in the order they were read.

        Raises:
            LinkLost: nothing asked for one of them, or it refuses a subscription.

        """
        waiting = self._waiting
        at, size = 0, len(replies)
        while at < size:
            head = waiting[0] if waiting else None
            if not isinstance(head, _Commands):
                what = "a reply that nothing asked for" if head is None else "subscription refused"
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
        """Take one subscription push; it belongs to the oldest command.

        Raises:
            LinkLost: nobody asked for it: Redis withdrew a subscription.

        """
        head = self._waiting[0] if self._waiting else None
        if not isinstance(head, _Pushes):
            raise LinkLost("subscription withdrawn")
        head.missing -= 1
        if not head.missing:
            self._waiting.popleft()
            self.answered += 1

    def lose(self, reason: str, handed: int) -> None:
        """End: there will be no more answers. `handed` bytes of what was queued were sent.

        A command can be executed only once its last byte is with the kernel.
        """
        waiting, self._waiting = self._waiting, deque()
        for each in waiting:
            if isinstance(each, _Commands):
                unanswered = each.ends[len(each.answers) :]
                each.on_answers(
                    each.answers
                    + [LinkLost(reason, written=each.start + end <= handed) for end in unanswered]
                )
