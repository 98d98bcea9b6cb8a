"""Messages of one channel and one size that a node delivers in a row: taken apart at once.

They begin with the same bytes, so cutting at those gives the payloads, in C, where the parser
makes four objects of each. What is in the row is proved by lengths alone: a part that is as long as
the first begins where the next message has to begin.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

RUN_BYTES_MIN = 4096
"""Received bytes from which on it pays to look for a run."""

LONG_RUN = 32
"""Messages of a run from which on another one is looked for behind it."""

_MESSAGE = re.compile(rb">3\r\n\$7\r\nmessage\r\n\$(\d{1,9})\r\n")
_SIZE = re.compile(rb"\r\n\$(\d{1,9})\r\n")


class DeliveryRun(NamedTuple):
    """Equal messages but for their payloads."""

    channel: bytes
    payloads: list[bytes]
    head: bytes  # how each begins, up to its payload
    end: int

    def begins(self, data: bytes) -> bool:
        """Whether `data` is the beginning of one more of them, but not all of it."""
        whole = len(self.head) + len(self.payloads[0]) + 2
        return 0 < len(data) < whole and data[: len(self.head)] == self.head[: len(data)]


def leading_run(data: bytes, start: int) -> DeliveryRun | None:
    """Return the run that begins at `start`.

    None when fewer than two whole messages are in it, or something else begins there.
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
    """Takes runs off the front of what is received, so long as only whole replies came before."""

    __slots__ = ("_begun", "_on_run")

    def __init__(self, on_run: Callable[[bytes, list[bytes]], None]) -> None:
        self._on_run = on_run  # called with channel and payloads
        self._begun = b""  # a message that goes on with the next bytes

    def take(self, data: bytes, *, is_between: bool) -> bytes:
        """Take runs; return what the parser is to have, in its order.

        `is_between` says that the parser waits for no more bytes of an item. Between the items of
        a reply nothing begins like a run either: a push stands in no other reply.
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
                break  # the parser is as fast with what is like this
        if last is None:
            return data
        left = data[start:]
        if last.begins(left):
            self._begun = left
            return b""
        return left
