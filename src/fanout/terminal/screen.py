"""Full-screen display on the alternate screen of a terminal, which is restored at the end.

Each picture overwrites the one before, line by line and in one write: clearing the screen first
would flicker.
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
from fanout.terminal.table import cut, width_of

ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l"
"""Switch to the alternate screen, hide the cursor, turn line wrap off."""

LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"

HOME, LINE_END, SCREEN_END = "\x1b[H", "\x1b[K", "\x1b[J"

BEGIN, END = "\x1b[?2026h", "\x1b[?2026l"
"""Synchronized output; terminals without it ignore the sequences."""

STDIN, STDOUT = 0, 1
KEY_BYTES = 64

ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@attrs.frozen
class Size:
    """The size of a terminal, in columns and lines."""

    columns: int
    lines: int


USUAL = Size(80, 24)
"""The size assumed where the terminal reports none."""


Picture = Callable[[Size], Sequence[str]]
"""Returns the lines to show at a size. Excess lines and columns are cut off."""


@asynccontextmanager
async def open_ending() -> AsyncIterator[trio.CancelScope]:
    """Run the block; cancel it on Ctrl-C, SIGTERM or SIGHUP."""
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
    """Run the block with the terminal as a screen; cancel it on q or a signal of `open_ending`."""
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
    """The terminal at standard output; keys are read from the one at standard input."""

    def __init__(self) -> None:
        self._picture: Picture = lambda _size: ()
        self._entered = False
        self._keys: list[Any] | None = None

    def enter(self) -> None:
        """Switch to the alternate screen and read single keys. Raises OutputFailed."""
        self._entered = True
        with contextlib.suppress(termios.error):  # standard input is no terminal
            self._keys = termios.tcgetattr(STDIN)
            tty.setcbreak(STDIN)
        write(ENTER)

    def leave(self) -> None:
        """Restore the terminal, if `enter` was called. A closed terminal is no error."""
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
        """Show a picture over the one before. Raises OutputFailed."""
        self._picture = picture
        size = _size()
        lines = [cut(line, size.columns) for line in picture(size)[: size.lines]]
        # Behind a full line the cursor stays on the last character, which LINE_END would erase.
        lines = [line if width_of(line) == size.columns else line + LINE_END for line in lines]
        text = "\r\n".join([*lines, SCREEN_END][: size.lines])
        write(f"{BEGIN}{HOME}{text}{END}")

    async def follow(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Redraw when the size changes; restore the terminal while stopped by Ctrl-Z."""
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
    """Return the current size. COLUMNS and LINES are ignored: they do not follow a resize."""
    try:
        columns, lines = os.get_terminal_size(STDOUT)
    except OSError:
        columns = lines = 0
    return Size(columns or USUAL.columns, lines or USUAL.lines)
