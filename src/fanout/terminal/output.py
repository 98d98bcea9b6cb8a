"""Standard output and standard error of the commands that look and listen."""

import os
import stat
import sys
from typing import BinaryIO

import trio

from fanout.errors import OutputFailed
from fanout.terminal.table import Palette


def is_terminal() -> bool:
    """Whether standard output can be drawn on."""
    return (
        sys.stdout is not None and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    )


def palette() -> Palette:
    """Return the colours of standard output: none in a file or pipe, or where NO_COLOR is set."""
    return Palette(is_terminal() and not os.environ.get("NO_COLOR"))


def write(text: str) -> None:
    """Write at once. Raises OutputFailed."""
    if sys.stdout is None:  # as Python has it when the command was started without one
        raise OutputFailed("there is no standard output")
    data = text.encode(sys.stdout.encoding or "utf-8", "backslashreplace")
    stream: BinaryIO = sys.stdout.buffer
    try:
        stream.write(data)
        stream.flush()
    except BrokenPipeError:
        _forget()
        raise OutputFailed("nobody reads standard output", closed=True) from None
    except OSError as error:
        _forget()
        raise OutputFailed(f"standard output: {error.strerror}") from None


def tell(line: str) -> None:
    """Write a line for people on standard error, if that can be done."""
    try:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
    except OSError:
        pass


async def wait_closed() -> None:
    """Wait until nobody reads standard output any more; for ever where it is no pipe.

    Without it a command that waits for messages would outlive `head` until the next one comes.

    Raises:
        OutputFailed: it came to that.

    """
    number = -1 if sys.stdout is None else sys.stdout.fileno()
    if number >= 0 and stat.S_ISFIFO(os.fstat(number).st_mode):
        await trio.lowlevel.wait_readable(number)  # this end cannot be read: it is an error then
        _forget()
        raise OutputFailed("nobody reads standard output", closed=True)
    await trio.sleep_forever()


def _forget() -> None:
    """Have Python not write again what could not be written, when the process ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
