"""Standard output and standard error of the commands."""

import os
import stat
import sys
from typing import BinaryIO

import trio

from fanout.errors import OutputFailed
from fanout.terminal.table import Palette

BROKEN_PIPE = "stdout closed (broken pipe)"


def is_terminal() -> bool:
    """Return whether standard output is a terminal that can be redrawn."""
    return (
        sys.stdout is not None and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    )


def palette() -> Palette:
    """Return the colours for standard output: none in a file or pipe, or with NO_COLOR set."""
    return Palette(is_terminal() and not os.environ.get("NO_COLOR"))


def write(text: str) -> None:
    """Write to standard output and flush. Raises OutputFailed."""
    if sys.stdout is None:  # the command was started with it closed
        raise OutputFailed("standard output is closed")
    data = text.encode(sys.stdout.encoding or "utf-8", "backslashreplace")
    stream: BinaryIO = sys.stdout.buffer
    try:
        stream.write(data)
        stream.flush()
    except BrokenPipeError:
        _forget()
        raise OutputFailed(BROKEN_PIPE, closed=True) from None
    except OSError as error:
        _forget()
        raise OutputFailed(f"standard output: {error.strerror}") from None


def tell(line: str) -> None:
    """Write a line to standard error; errors are ignored."""
    try:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
    except OSError:
        pass


async def wait_closed() -> None:
    """Wait until the reader of a pipe at standard output closes it; for ever if it is no pipe.

    Without this, `sub | head` would not end before the next message.

    Raises:
        OutputFailed: the pipe is closed.

    """
    number = -1 if sys.stdout is None else sys.stdout.fileno()
    if number >= 0 and stat.S_ISFIFO(os.fstat(number).st_mode):
        await trio.lowlevel.wait_readable(number)  # the write end: ready on error only
        _forget()
        raise OutputFailed(BROKEN_PIPE, closed=True)
    await trio.sleep_forever()


def _forget() -> None:
    """Discard what is still buffered, so that Python does not fail again to write it at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
