"""Starts and ends processes; measures their CPU time and memory."""

import contextlib
import os
import re
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

import attrs

from fanout.runtime.redis.redis_server import free_port

HOST = "127.0.0.1"
START_SECONDS = 30.0
END_SECONDS = 10.0


class Missing(Exception):  # noqa: N818 - a fact about this machine
    """A system cannot be measured here, or has ended; the message says why."""


def program(name: str, package: str) -> str:
    """Return the path of a program. Raises Missing."""
    # Ours from this environment; others from the system, because old ones may lie next to Python.
    beside = str(Path(sys.executable).parent)
    found = shutil.which(name, path=beside if name.startswith("fanout") else None)
    found = found or shutil.which(name, path=beside) or shutil.which(name, path="/usr/sbin")
    if not found:
        raise Missing(f"{name} is not installed: {package}")
    return found


@attrs.frozen(eq=False)
class Process:
    """A started process and its log file."""

    popen: "subprocess.Popen[str]"
    log: Path

    @property
    def pid(self) -> int:
        """The process id."""
        return self.popen.pid

    def says(self, ready: str) -> dict[str, str]:
        """Wait for a line that begins with `ready`; return its `key=value` words.

        Raises:
            Missing: the process ended, or printed no such line within START_SECONDS.

        """
        assert self.popen.stdout is not None
        line = ""
        while not line.startswith(ready):
            if not select.select([self.popen.stdout], [], [], START_SECONDS)[0]:
                raise Missing(f"did not start within {START_SECONDS:g} s: {self._last_words()}")
            line = self.popen.stdout.readline()
            if not line:
                raise Missing(f"ended at once: {self._last_words()}")
        return dict(re.findall(r"(\w+)=(\S+)", line))

    def listens(self, port: int) -> None:
        """Wait until the process accepts connections. Raises Missing, as `says` does."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            if self.popen.poll() is not None:
                raise Missing(f"ended at once: {self._last_words()}")
            try:
                socket.create_connection((HOST, port), 1).close()
            except OSError:
                if time.monotonic() > deadline:
                    raise Missing(f"did not listen: {self._last_words()}") from None
                time.sleep(0.02)
            else:
                return

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else "no output"

    def end(self, *, kill: bool = False) -> None:
        """Terminate the process, or `kill` it, and wait until it has ended."""
        if kill:
            self.popen.kill()
        else:
            self.popen.terminate()
        try:
            self.popen.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        if self.popen.stdout is not None:
            self.popen.stdout.close()


class Servers:
    """Starts servers and ends them with the block, the last started first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stack = contextlib.ExitStack()
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(
        self, words: Sequence[str], *, talks: bool = False, env: dict[str, str] | None = None
    ) -> Process:
        """Start a process and log to a file; the standard output of one that `talks` is a pipe."""
        self._count += 1
        log = self.folder / f"{Path(words[0]).name}-{self._count}.log"
        with log.open("wb") as file:
            popen = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE if talks else file, stderr=file,
                cwd=self.folder, env={**os.environ, **(env or {})}, text=True,
            )  # fmt: skip
        process = Process(popen, log)
        self._stack.callback(process.end)
        return process

    def redis(self, *options: str, port: int = 0) -> tuple[Process, int]:
        """Start a Redis without persistence on `port`, or a free port; return process and port."""
        port = port or free_port(HOST)
        words = [program("redis-server", "apt install redis-server"), "--port", str(port)]
        words += ["--save", "", "--appendonly", "no", "--bind", HOST]
        process = self.start([*words, *options])
        process.listens(port)
        return process, port


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the CPU time of processes, all threads, user and system mode, to the ns.

    Raises:
        Missing: a process has ended.

    """
    total = 0
    for pid in pids:
        try:
            tasks = list(Path(f"/proc/{pid}/task").iterdir())
        except OSError:
            raise Missing("a process has ended") from None
        for task in tasks:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def memory_bytes(pids: Iterable[int]) -> int:
    """Return the resident memory of processes; shared memory counts once in total (Pss)."""
    total = 0
    for pid in pids:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += int(rollup.partition("\nPss:")[2].split()[0]) * 1024
    return total


def family(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            parents.setdefault(parent, []).append(int(stat.parent.name))
    found = [pid]
    for each in found:
        found += parents.get(each, [])
    return found
