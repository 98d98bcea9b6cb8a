"""What goes to standard output: lines for the person or program that started us."""

import sys


def print_line(line: str) -> None:
    """Write a line at once; logs go to standard error instead."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
