"""A terminal of its own for a command, so that what it does with one can be seen."""

import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fanout.terminal.screen import HOME

WAIT_SECONDS = 30.0
SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Terminal:
    """A command on a terminal. What it writes is kept whole."""

    def __init__(
        self, *arguments: str, columns: int = 80, lines: int = 24, env: dict[str, str] | None = None
    ) -> None:
        self.said = ""
        self._near, self._far = pty.openpty()
        termios.tcsetwinsize(self._far, (lines, columns))
        self.found = self.keys()
        """How the terminal's keys were set before."""
        cleared = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        self.popen = subprocess.Popen(
            arguments,
            stdin=self._far,
            stdout=self._far,
            stderr=self._far,
            env={**cleared, "TERM": "xterm", **(env or {})},
            start_new_session=True,
            preexec_fn=_take_terminal,  # noqa: PLW1509 - no threads here
        )

    def keys(self) -> list[Any]:
        """Return how the terminal's keys are set now."""
        return termios.tcgetattr(self._far)

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._near, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        """Make the terminal another size, and tell the command as terminals do."""
        termios.tcsetwinsize(self._far, (lines, columns))
        self.popen.send_signal(signal.SIGWINCH)

    def picture(self) -> list[str]:
        """Return the lines that were drawn last, without colours."""
        _, _, last = self.said.rpartition(HOME)
        return SEQUENCE.sub("", last).replace("\r", "").split("\n")

    def wait(self, what: Callable[[], bool]) -> None:
        """Wait until something holds of what was written."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not what():
            assert time.monotonic() < deadline, self.said[-4000:]
            self._read(0.1)

    def shows(self, text: str) -> None:
        """Wait until a whole picture holds a text."""
        self.wait(lambda: any(text in line for line in self.picture()))

    def end(self) -> int:
        """Wait for the end of the command and all that it wrote; return its exit code."""
        deadline = time.monotonic() + WAIT_SECONDS
        while (code := self.popen.poll()) is None:
            assert time.monotonic() < deadline, self.said[-4000:]
            self._read(0.1)
        while self._read(0.0):
            pass
        return code

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self._near], [], [], seconds)
        if ready:
            self.said += os.read(self._near, 65_536).decode(errors="replace")
        return bool(ready)

    def close(self) -> None:
        """End the command if it still runs."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGCONT)
            self.popen.kill()
        self.popen.wait()
        os.close(self._near)
        os.close(self._far)


def _take_terminal() -> None:
    """Make standard input the terminal that Ctrl-C comes from; a shell's job may have it ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@contextmanager
def open_terminal(*arguments: str, **options: Any) -> Iterator[Terminal]:
    """Run a command on a terminal."""
    terminal = Terminal(*arguments, **options)
    try:
        yield terminal
    finally:
        terminal.close()
