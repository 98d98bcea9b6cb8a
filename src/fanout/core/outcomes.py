"""Collects the outcomes of messages that were published as one run.

Normally a run is published and answered as a whole. If one of its messages has to wait or to be
retried, each message of the run is published separately and its outcome is recorded here.
"""

from collections.abc import Callable, Sequence

from fanout.values.requests import Outcome, PublishRun


class Outcomes:
    """The outcomes of a run; `done` is called once, with the outcomes of all messages in order."""

    __slots__ = ("_done", "_outcomes", "run")

    def __init__(self, run: PublishRun, done: Callable[[Sequence[Outcome]], None]) -> None:
        self.run = run
        self._done = done
        self._outcomes: dict[int, Outcome] = {}

    def settle(self, index: int, outcome: Outcome) -> None:
        """Record the outcome of one message.

        Raises:
            RuntimeError: the message is already settled.

        """
        if index in self._outcomes:
            raise RuntimeError("a message of a run was settled twice")
        self._outcomes[index] = outcome
        count = len(self.run.channels)
        if len(self._outcomes) == count:
            self._done([self._outcomes[each] for each in range(count)])

    def settle_all(self, outcomes: Sequence[Outcome]) -> None:
        """Record the outcomes of all messages; none may be settled already."""
        self._done(outcomes)
