"""Standard output: lines for the person or program that started this process."""

import sys

from fanout.runtime.process.supervisor import READY, notify


def print_line(line: str) -> None:
    """Write a line to standard output and flush; logs go to standard error."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def announce_ready(line: str) -> None:
    """Write the ready line, and notify the supervisor."""
    print_line(line)
    notify(READY)
