"""A terminal that is drawn on again and again, and is left as it was found.

The alternate screen is used, so that what stood there before comes back. A picture is written in
one go over the one before, line by line: nothing is cleared first, so nothing flickers.
"""

import contextlib
import os
import signal
import termios
import tty
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from fanout.errors import OutputFailed
from fanout.terminal.output import write
from fanout.terminal.table import cut

ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l"
"""The alternate screen, no cursor, no line that goes on in the next one."""

LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"

HOME, LINE_END, SCREEN_END = "\x1b[H", "\x1b[K", "\x1b[J"

BEGIN, END = "\x1b[?2026h", "\x1b[?2026l"
"""Terminals that know them show what is between the two at once; others pass over them."""

STDIN, STDOUT = 0, 1
KEY_BYTES = 64

ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@attrs.frozen
class Size:
    """Of a terminal, in characters."""

    columns: int
    lines: int


USUAL = Size(80, 24)
"""Of a terminal that does not know its size."""


Picture = Callable[[Size], Sequence[str]]
"""Returns the lines to show on a terminal of a size. What is too much of them is cut off."""


@asynccontextmanager
async def open_ending() -> AsyncIterator[trio.CancelScope]:
    """Run the block until it ends, or is cancelled by Ctrl-C, SIGTERM or SIGHUP."""
    async with trio.open_nursery() as nursery:
        await nursery.start(_end_by_signal, nursery.cancel_scope)
        yield nursery.cancel_scope
        nursery.cancel_scope.cancel()


async def _end_by_signal(scope: trio.CancelScope, *, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(*ENDS) as signals:
        task_status.started()
        async for _ in signals:
            scope.cancel()


@asynccontextmanager
async def open_screen() -> AsyncIterator["Screen"]:
    """Draw on the terminal in the block, until q or a signal of `open_ending` cancels it."""
    screen = Screen()
    async with open_ending() as scope, trio.open_nursery() as nursery:
        await nursery.start(screen.follow)
        nursery.start_soon(_end_by_key, scope)
        try:
            screen.enter()
            yield screen
        finally:
            screen.leave()
        nursery.cancel_scope.cancel()


async def _end_by_key(scope: trio.CancelScope) -> None:
    if not os.isatty(STDIN):
        return
    while True:
        await trio.lowlevel.wait_readable(STDIN)
        keys = os.read(STDIN, KEY_BYTES)
        if not keys or b"q" in keys.lower():
            scope.cancel()
            return


class Screen:
    """The terminal at standard output, with the keys of the one at standard input."""

    def __init__(self) -> None:
        self._picture: Picture = lambda _size: ()
        self._entered = False
        self._keys: list[Any] | None = None

    def enter(self) -> None:
        """Take the terminal. Raises OutputFailed."""
        self._entered = True
        with contextlib.suppress(termios.error):  # keys come from elsewhere
            self._keys = termios.tcgetattr(STDIN)
            tty.setcbreak(STDIN)
        write(ENTER)

    def leave(self) -> None:
        """Give it back, if it was taken. A terminal that is gone is no error."""
        if not self._entered:
            return
        self._entered = False
        with contextlib.suppress(OutputFailed):
            write(LEAVE)
        if self._keys is not None:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(STDIN, termios.TCSADRAIN, self._keys)
            self._keys = None

    def draw(self, picture: Picture) -> None:
        """Show a picture in place of the one before. Raises OutputFailed."""
        self._picture = picture
        size = _size()
        lines = [cut(line, size.columns) for line in picture(size)[: size.lines]]
        text = "\r\n".join(line + LINE_END for line in lines)
        write(f"{BEGIN}{HOME}{text}{SCREEN_END}{END}")

    async def follow(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Draw anew when the size changes; give the terminal back while stopped by Ctrl-Z."""
        with trio.open_signal_receiver(signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT) as signals:
            task_status.started()
            async for number in signals:
                if number == signal.SIGTSTP:
                    self.leave()
                    os.kill(os.getpid(), signal.SIGSTOP)
                    continue
                if number == signal.SIGCONT:
                    self.leave()
                    self.enter()
                self.draw(self._picture)


def _size() -> Size:
    """Return the size now. COLUMNS and LINES do not count: a shell exports those it began with."""
    try:
        columns, lines = os.get_terminal_size(STDOUT)
    except OSError:
        columns = lines = 0
    return Size(columns or USUAL.columns, lines or USUAL.lines)
