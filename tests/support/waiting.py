"""Waits of tests that use real processes: until a condition holds, or a server is up."""

import subprocess
import time
from collections.abc import Callable

WAIT_SECONDS = 20.0


def until(condition: Callable[[], object], seconds: float = WAIT_SECONDS) -> None:
    """Poll a condition until it holds; fail after a time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def comes_up(process: subprocess.Popen[bytes], is_up: Callable[[], object], seconds: float) -> bool:
    """Poll a server until it is up; return False when it ended or the time passed before."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        if is_up():
            return True
        time.sleep(0.02)
    return False
