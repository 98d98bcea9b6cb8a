"""The busiest channels, counted only while the live feed has a reader."""

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Any

from fanout.core.live import LiveChannel
from fanout.core.rates import DIGITS
from fanout.core.tally import Tally
from fanout.runtime.process.logs import printable
from fanout.values.names import RESERVED_PREFIX, SHARD_PREFIX

ENTRIES_MAX = 256
"""Channels tracked in each direction: any channel above 0.4 % of the messages is found."""

WINDOWS = 5
"""Windows that a channel's rate is averaged over, so that the list does not jump."""

Counts = tuple[dict[bytes, int], dict[bytes, int]]
"""Messages by channel: received from the nodes, and published by clients here."""


class Traffic:
    """Counts messages by channel, at about 0.4 us each, or 0.6 us when all channels differ."""

    def __init__(self) -> None:
        self.published: Tally[bytes] = Tally(ENTRIES_MAX)
        self._received: Tally[bytes] = Tally(ENTRIES_MAX)
        self._windows: deque[tuple[float, Counts]] = deque(maxlen=WINDOWS)

    def take(self, pushes: Iterable[Sequence[Any]]) -> None:
        """Count the messages among the pushes of a node."""
        self._received.add(
            push[1] if push[0] == b"message" else push[2]
            for push in pushes
            if push[0] in (b"message", b"pmessage")
        )

    def take_run(self, channel: bytes, count: int) -> None:
        """Count successive messages of one channel."""
        self._received.add(repeat(channel, count))

    def busiest(self, seconds: float, most: int) -> list[LiveChannel]:
        """End a window of `seconds`; return at most `most` busiest channels of the latest windows."""
        self._windows.append((seconds, (_counts(self._received), _counts(self.published))))
        self.published, self._received = Tally(ENTRIES_MAX), Tally(ENTRIES_MAX)
        seconds = sum(each for each, _ in self._windows)
        sums: dict[bytes, list[int]] = {}
        for _, ways in self._windows:
            for way, counts in enumerate(ways):
                for name, count in counts.items():
                    sums.setdefault(name, [0, 0])[way] += count
        names = sorted(sums, key=lambda name: (-max(sums[name]), name))
        return [
            LiveChannel(
                name=printable(name.removeprefix(SHARD_PREFIX)),
                received_per_second=round(sums[name][0] / seconds, DIGITS),
                published_per_second=round(sums[name][1] / seconds, DIGITS),
            )
            for name in names[:most]
        ]


def _counts(tally: Tally[bytes]) -> dict[bytes, int]:
    """Return the certain count of each channel, without the reserved ones."""
    return {
        each.name: each.count - each.error
        for each in tally.top(ENTRIES_MAX)
        if each.name.startswith(SHARD_PREFIX) or not each.name.startswith(RESERVED_PREFIX)
    }
