"""Gathers the outcomes of messages that were published as one run.

As long as nothing goes wrong a run is published and answered as a whole. When one of its messages
has to wait or to be tried again, each message of the run takes its own way and settles here.
"""

from collections.abc import Callable, Sequence

from fanout.values.requests import Outcome, PublishRun


class Outcomes:
    """The outcomes of a run; `done` is called once, with those of all messages in order."""

    __slots__ = ("_done", "_outcomes", "run")

    def __init__(self, run: PublishRun, done: Callable[[Sequence[Outcome]], None]) -> None:
        self.run = run
        self._done = done
        self._outcomes: dict[int, Outcome] = {}

    def settle(self, index: int, outcome: Outcome) -> None:
        """Record the outcome of one message.

        Raises:
            RuntimeError: the message was settled before.

        """
        if index in self._outcomes:
            raise RuntimeError("a message of a run was settled twice")
        self._outcomes[index] = outcome
        count = len(self.run.channels)
        if len(self._outcomes) == count:
            self._done([self._outcomes[each] for each in range(count)])

    def settle_all(self, outcomes: Sequence[Outcome]) -> None:
        """Record the outcomes of all messages, none of which is settled yet."""
        self._done(outcomes)
