"""Real fleets from the installed commands: every process is ended by its id."""

import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import attrs
import pytest

from fanout.runtime.redis.redis_server import find_redis_server, free_port

START_SECONDS = 30.0


PORT_ATTEMPTS = 5


FAST = (
    "--heartbeat-interval-seconds=0.3",
    "--lease-seconds=1.5",
    "--poll-interval-seconds=0.3",
    "--probe-interval-seconds=0.3",
    "--probe-timeout-seconds=1",
    "--reconnect-max-seconds=0.5",
)
"""Times that make crashes quick to notice; what is promised does not depend on them."""


OLDER = Path(os.environ.get("FANOUT_TEST_OLDER", Path(sys.executable).parent))
"""Folder with the commands of an older build, for fleets of two builds; by default this one's."""


def command(name: str, *, older: bool = False) -> str:
    """Return the installed command beside the running Python, or that of the older build."""
    return str(OLDER / name if older else Path(sys.executable).with_name(name))


@attrs.define(eq=False)
class Process:
    """One started command."""

    popen: subprocess.Popen[bytes]
    ready: dict[str, str] = attrs.field(factory=dict)
    said: bytes = b""
    log: Path = Path()

    @property
    def pid(self) -> int:
        """The process id."""
        return self.popen.pid

    def says(self, text: bytes) -> bool:
        """Wait until standard output holds `text`; False when it ended before."""
        deadline = time.monotonic() + START_SECONDS
        while text not in self.said:
            data = self._read(deadline)
            if not data:
                return False
            self.said += data
        return True

    def _read(self, deadline: float) -> bytes:
        """Wait for more of standard output; empty at its end and at the deadline."""
        assert self.popen.stdout is not None
        left = max(0, deadline - time.monotonic())
        ready, _, _ = select.select([self.popen.stdout], [], [], left)
        return os.read(self.popen.stdout.fileno(), 65536) if ready else b""

    def wait_line(self, start: str) -> str:
        """Wait for a line of standard output that begins with `start`."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            for line in self.said.decode().splitlines(keepends=True):
                if line.startswith(start) and line.endswith("\n"):
                    self.ready = dict(re.findall(r"(\w+)=(\S+)", line))
                    return line
            data = self._read(deadline)
            if not data:
                pytest.fail(f"no line {start!r}; said {self.said!r}; log {self.log.read_text()}")
            self.said += data

    def port(self, door: str) -> int:
        """Return the port of a door named in the ready line."""
        return int(self.ready[door].rstrip("/").rpartition(":")[2])

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; return the exit code."""
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        return self.popen.wait(START_SECONDS)


class Fleet:
    """Starts the parts of a fleet and ends them all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[Process] = []
        self.discovery: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def start(
        self, *arguments: str, env: dict[str, str] | None = None, stdin: int = subprocess.DEVNULL
    ) -> Process:
        """Start a command; its log goes to a file of its own."""
        log = self._folder / f"{len(self._processes)}.log"
        with log.open("wb") as stderr:
            popen = subprocess.Popen(
                arguments,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={**os.environ, **(env or {})},
            )
        process = Process(popen, log=log)
        self._processes.append(process)
        return process

    def redis(self, *options: str) -> tuple[Process, int]:
        """Start a redis-server on a port of its own and wait until it listens."""
        for _ in range(PORT_ATTEMPTS):
            port = free_port("127.0.0.1")
            server = self.start(
                find_redis_server(), "--port", str(port), "--bind", "127.0.0.1", "--save", "",
                "--dir", str(self._folder), *options,
            )  # fmt: skip
            # Not by connecting: on loopback a connection to a free port may come to be its own
            # other end, and then keeps the server from binding it.
            if server.says(b"Ready to accept connections"):
                return server, port
        pytest.fail(f"no redis-server starts: {server.said!r}")

    def add_discovery(self) -> Process:
        """Start a discovery Redis."""
        server, port = self.redis()
        self.discovery.append(f"redis://127.0.0.1:{port}")
        return server

    def node(self, name: str, *extra: str, older: bool = False) -> Process:
        """Start a node with a Redis of its own and wait until it is active."""
        node = self.start(
            command("fanout-node", older=older), "--id", name, "--spawn", "127.0.0.1:0",
            *self._discovery_flags(), *FAST, *extra,
        )  # fmt: skip
        node.wait_line("ready ")
        return node

    def sidecar(self, name: str, *extra: str, older: bool = False) -> Process:
        """Start a sidecar and wait until it is ready."""
        sidecar = self.start(
            command("fanout-sidecar", older=older), "--id", name, "--resp", "127.0.0.1:0", "--ws",
            "127.0.0.1:0", "--admin", "127.0.0.1:0", *self._discovery_flags(), *FAST, *extra,
        )  # fmt: skip
        sidecar.wait_line("ready ")
        return sidecar

    def _discovery_flags(self) -> list[str]:
        return [flag for url in self.discovery for flag in ("--discovery", url)]

    def end(self) -> None:
        """End whatever still runs."""
        for process in reversed(self._processes):
            if process.popen.poll() is None:
                process.popen.send_signal(signal.SIGCONT)
                process.popen.kill()
            process.popen.wait()
            for pipe in (process.popen.stdin, process.popen.stdout):
                if pipe is not None:
                    pipe.close()
