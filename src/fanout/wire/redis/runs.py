"""Fast decoding of messages of one channel and one size that a node delivers in a row.

They begin with the same bytes, so splitting at these bytes yields the payloads, in C; the parser
would make four objects of each message. Lengths alone prove that a part is a message: a part as long
as the first ends where the next message must begin.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

RUN_BYTES_MIN = 4096
"""The least number of received bytes for which looking for a run pays off."""

LONG_RUN = 32
"""The least length of a run after which another run is looked for."""

_MESSAGE = re.compile(rb">3\r\n\$7\r\nmessage\r\n\$(\d{1,9})\r\n")
_SIZE = re.compile(rb"\r\n\$(\d{1,9})\r\n")


class DeliveryRun(NamedTuple):
    """Messages that differ only in their payloads."""

    channel: bytes
    payloads: list[bytes]
    head: bytes  # how each begins, up to its payload
    end: int

    def begins(self, data: bytes) -> bool:
        """Return whether `data` is an incomplete further message of the run."""
        whole = len(self.head) + len(self.payloads[0]) + 2
        return 0 < len(data) < whole and data[: len(self.head)] == self.head[: len(data)]


def leading_run(data: bytes, start: int) -> DeliveryRun | None:
    """Return the run that begins at `start`.

    Return None if it has fewer than two whole messages, or if something else begins there.
    """
    begin = _MESSAGE.match(data, start)
    if begin is None:
        return None
    channel_end = begin.end() + int(begin[1])
    size = _SIZE.match(data, channel_end)
    if size is None:
        return None
    head = data[start : size.end()]
    part = int(size[1]) + 2
    length = len(head) + part
    whole = (len(data) - start) // length
    count = 1
    while count < whole and data.startswith(head, start + count * length):
        count *= 2  # so no more is cut than about twice what may be in the run
    if count == 1:
        return None
    parts = data[start : start + min(count, whole) * length].split(head)
    del parts[0]  # what is before the first head: nothing
    if set(map(len, parts)) != {part}:
        last = next(number for number, each in enumerate(parts) if len(each) != part)
        # Longer: something else begins behind it. Shorter: a payload with such a head in it.
        del parts[last + (len(parts[last]) > part) :]
    if len(parts) < 2:  # noqa: PLR2004 - one is no run
        return None
    payloads = [each[: part - 2] for each in parts]
    end = start + len(parts) * length
    return DeliveryRun(data[begin.end() : channel_end], payloads, head, end)


class RunReader:
    """Takes runs from the front of received bytes, while the parser is between replies."""

    __slots__ = ("_begun", "_on_run")

    def __init__(self, on_run: Callable[[bytes, list[bytes]], None]) -> None:
        self._on_run = on_run  # called with channel and payloads
        self._begun = b""  # a message whose end has not come yet

    def take(self, data: bytes, *, is_between: bool) -> bytes:
        """Take runs and return the bytes for the parser, in order.

        `is_between`: the parser is not within an item. No run begins between the items of a reply:
        a push is never part of another reply.
        """
        if self._begun:
            data, self._begun = self._begun + data, b""
        elif not is_between or len(data) < RUN_BYTES_MIN:
            return data
        start = 0
        last = None
        while (run := leading_run(data, start)) is not None:
            last, start = run, run.end
            self._on_run(run.channel, run.payloads)
            if len(run.payloads) < LONG_RUN:
                break  # the parser is as fast for such data
        if last is None:
            return data
        left = data[start:]
        if last.begins(left):
            self._begun = left
            return b""
        return left
