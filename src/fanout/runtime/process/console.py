"""What goes to standard output: lines for the person or program that started us."""

import sys

from fanout.runtime.process.supervisor import READY, notify


def print_line(line: str) -> None:
    """Write a line at once; logs go to standard error instead."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def announce_ready(line: str) -> None:
    """Write the line that says that everything is up, and tell the supervisor."""
    print_line(line)
    notify(READY)
