"""Messages that one client publishes in a row, and what became of each.

A client that has many messages on their way sends them in runs. A run is one thing to everybody
between the client's socket and the node's, as long as nothing goes wrong: then each message goes
its own way, and the run is told when the last of them has arrived somewhere.
"""

from collections.abc import Callable, Sequence

from fanout.values.requests import Outcome


class Run:
    """A run of messages. `done` is called once, with all outcomes in order.

    Args:
        channels: the channel of each message. Equal neighbours are best the same object.
        data: the commands that publish them, as Redis reads them.
        ends: where in `data` each of them ends.
        done: told the outcomes.

    """

    __slots__ = ("_done", "_outcomes", "channels", "data", "ends")

    def __init__(
        self,
        channels: Sequence[bytes],
        data: bytes,
        ends: Sequence[int],
        done: Callable[[Sequence[Outcome]], None],
    ) -> None:
        self.channels = channels
        self.data = data
        self.ends = ends
        self._done = done
        self._outcomes: dict[int, Outcome] = {}

    def command(self, index: int) -> bytes:
        """Return the command that publishes one of the messages."""
        return self.data[self.ends[index - 1] if index else 0 : self.ends[index]]

    def settle(self, index: int, outcome: Outcome) -> None:
        """Record what became of one message, once."""
        if index in self._outcomes:
            raise RuntimeError("a message of a run was settled twice")
        self._outcomes[index] = outcome
        if len(self._outcomes) == len(self.channels):
            self._done([self._outcomes[each] for each in range(len(self.channels))])

    def settle_all(self, outcomes: Sequence[Outcome]) -> None:
        """Record what became of all messages, none of which is settled yet."""
        self._done(outcomes)
