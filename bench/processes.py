"""Starts processes and ends them; says what they used, and who started whom."""

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
    """A system cannot be measured here, or has ended; says why."""


def program(name: str, package: str) -> str:
    """Return the path of a program. Raises Missing."""
    # Ours from this environment; others from the system, as old ones may lie beside Python.
    beside = str(Path(sys.executable).parent)
    found = shutil.which(name, path=beside if name.startswith("fanout") else None)
    found = found or shutil.which(name, path=beside) or shutil.which(name, path="/usr/sbin")
    if not found:
        raise Missing(f"{name} is not installed: {package}")
    return found


@attrs.frozen(eq=False)
class Process:
    """A started process, and where its log is."""

    popen: "subprocess.Popen[str]"
    log: Path

    @property
    def pid(self) -> int:
        """The process id."""
        return self.popen.pid

    def says(self, ready: str) -> dict[str, str]:
        """Wait for a line that begins with `ready`; return its words `key=value`.

        Raises:
            Missing: it ended, or said no such line in START_SECONDS.

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
        """Wait until it takes connections. Raises Missing, as `says` does."""
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
        return lines[-1][:200] if lines else "it said nothing"

    def end(self, *, kill: bool = False) -> None:
        """End it, in order unless `kill`, and wait for that."""
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
    """Starts servers, which end with the block, the youngest first."""

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
        """Start a process; what it logs goes to a file, and what one that `talks` says, to us."""
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
        """Start a Redis without persistence at a port, or a free one; return both."""
        port = port or free_port(HOST)
        words = [program("redis-server", "apt install redis-server"), "--port", str(port)]
        words += ["--save", "", "--appendonly", "no", "--bind", HOST]
        process = self.start([*words, *options])
        process.listens(port)
        return process, port


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the CPU time that processes have used, all threads and both modes, to the ns.

    Raises:
        Missing: one has ended.

    """
    total = 0
    for pid in pids:
        try:
            tasks = list(Path(f"/proc/{pid}/task").iterdir())
        except OSError:
            raise Missing("one of its processes has ended") from None
        for task in tasks:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def memory_bytes(pids: Iterable[int]) -> int:
    """Return the memory that processes hold in RAM; what several share counts once in all."""
    total = 0
    for pid in pids:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += int(rollup.partition("\nPss:")[2].split()[0]) * 1024
    return total


def family(pid: int) -> list[int]:
    """Return a process and all that descend from it."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            parents.setdefault(parent, []).append(int(stat.parent.name))
    found = [pid]
    for each in found:
        found += parents.get(each, [])
    return found
