"""Runs the load generator. It is written in C so that it is not the bottleneck."""

import contextlib
import itertools
import json
import selectors
import shutil
import subprocess
import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import attrs

from bench.processes import HOST, Missing
from bench.protocols import MARK, Batch, Dialogue

SOURCES = Path(__file__).with_name("native")
STALL_SECONDS = 5.0
OPENING_SECONDS = 60.0


class Stalled(Exception):  # noqa: N818 - a fact about a server
    """Messages or replies stopped before all had arrived, or too many arrived."""


@attrs.frozen
class Counters:
    """The counters of one generator; times are in seconds of the monotonic clock.

    `closed` is the number of its connections that the server has closed.
    """

    count: int
    first: float
    last: float
    seconds: float
    closed: int

    @classmethod
    def parse(cls, line: str) -> "Counters":
        """Parse a line of the generator's output."""
        said: dict[str, Any] = json.loads(line)
        first, last = said.pop("first_ns") / 1e9, said.pop("last_ns") / 1e9
        return cls(first=first, last=last, **said)


class Run:
    """One running generator, connected."""

    def __init__(self, process: "subprocess.Popen[str]", latencies: Path, connections: int) -> None:
        self._process = process
        self._latencies = latencies
        self.connections = connections

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def _pipe(self, pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe

    def hear(self, seconds: float = STALL_SECONDS) -> str:
        """Return the next line of its output. Raises Stalled."""
        out = self._pipe(self._process.stdout)
        with selectors.DefaultSelector() as selector:
            selector.register(out, selectors.EVENT_READ)
            if not selector.select(seconds):
                raise Stalled("the server stopped answering")
        line = out.readline()
        if not line:
            raise Stalled(self._pipe(self._process.stderr).read().strip())
        return line

    def say(self, line: str) -> None:
        """Write a line to its input."""
        pipe = self._pipe(self._process.stdin)
        pipe.write(line + "\n")
        pipe.flush()

    def counters(self) -> Counters:
        """Return the counters of a sink so far."""
        self.say("count")
        return Counters.parse(self.hear())

    def wait(self, count: int) -> Counters:
        """Wait until a sink has received `count` messages.

        Raises:
            Stalled: no more arrive, or too many arrived.

        """
        seen, moved = self.counters(), time.monotonic()
        while seen.count < count:
            time.sleep(0.01)
            before, seen = seen.count, self.counters()
            if seen.count != before:
                moved = time.monotonic()
            elif time.monotonic() - moved > STALL_SECONDS or seen.closed == self.connections:
                break
        if seen.count != count:
            hung = (
                f", {seen.closed} of {self.connections} connections closed" if seen.closed else ""
            )
            raise Stalled(f"{seen.count} of {count} messages arrived{hung}")
        return seen

    def result(self, seconds: float) -> Counters:
        """Return the counters of a pump or pacer once it has finished."""
        return Counters.parse(self.hear(seconds + STALL_SECONDS))

    def samples(self) -> "array[int]":
        """Return all latencies in ns, once the counters have been read."""
        found: array[int] = array("Q")
        found.frombytes(self._latencies.read_bytes())
        return found


@attrs.frozen
class Ledger:
    """The deliveries in flight in one trial; `window` is their limit."""

    path: Path
    window: int


class Loadgen:
    """The compiled generator and its working folder. Raises Missing without a compiler."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()
        compiler = shutil.which("cc")
        if compiler is None:
            raise Missing("C compiler not found: apt install gcc libc6-dev")
        for name in ("loadgen", "mirror"):
            source = str(SOURCES / f"{name}.c")
            subprocess.run([compiler, "-O2", "-o", folder / name, source], check=True)

    def _file(self, data: bytes) -> Path:
        path = self._folder / f"load-{next(self._numbers)}"
        path.write_bytes(data)
        return path

    def ledger(self, window: int) -> Ledger:
        """Return an empty ledger."""
        return Ledger(self._file(bytes(16)), window)

    @contextlib.contextmanager
    def _run(
        self, mode: str, address: str, dialogue: Dialogue, options: dict[str, str | bytes | int]
    ) -> Iterator[Run]:
        """Start a generator, wait until it has connected, and end it with the block."""
        files = []
        words = [str(self._folder / "loadgen"), mode, address]
        for say, until in dialogue:
            files.append(self._file(say))
            words += ["--say", str(files[-1]), "--until", until]
        for name, value in options.items():
            if isinstance(value, bytes):
                files.append(self._file(value))
            words += [f"--{name}", str(files[-1] if isinstance(value, bytes) else value)]
        with subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                # The latencies are the last option, so the last file is for them.
                last = files[-1] if files else self._folder
                run = Run(process, last, int(options["connections"]))
                run.hear(OPENING_SECONDS)
                yield run
            finally:
                process.kill()
                for file in files:
                    file.unlink()

    def sink(
        self, address: str, dialogue: Dialogue, connections: int,
        *, ledger: Ledger | None = None, stamped: bool = False,
    ) -> contextlib.AbstractContextManager[Run]:  # fmt: skip
        """Receive on `connections` connections; `stamped` messages carry the time they were due."""
        options: dict[str, str | bytes | int] = {"connections": connections, "mark": MARK.decode()}
        if ledger:
            options["ledger"] = str(ledger.path)
        if stamped:
            options["latencies"] = b""
        return self._run("sink", address, dialogue, options)

    def pump(
        self, address: str, dialogue: Dialogue, connections: int, batch: Batch, seconds: float,
        *, ledger: Ledger | None = None, each: int = 0,
    ) -> contextlib.AbstractContextManager[Run]:  # fmt: skip
        """Send batches, each after the replies to the previous one (closed loop).

        With a ledger a batch, of `each` deliveries, also waits for room in its window.
        """
        options: dict[str, str | bytes | int] = {
            "connections": connections,
            "batch": batch.data,
            "batches": batch.parts,
            "replies": batch.replies,
            "mark": batch.mark.decode(),
            "seconds": str(seconds),
        }
        if ledger:
            options |= {"ledger": str(ledger.path), "window": ledger.window, "each": each}
        return self._run("pump", address, dialogue, options | {"latencies": b""})

    def pace(
        self, address: str, dialogue: Dialogue, batch: Batch, per_second: float, seconds: float
    ) -> contextlib.AbstractContextManager[Run]:
        """Send a batch at each tick without waiting for replies (open loop)."""
        options: dict[str, str | bytes | int] = {
            "connections": 1,
            "batch": batch.data,
            "batches": batch.parts,
            "replies": 0,
            "mark": batch.mark.decode(),
            "rate": str(per_second),
            "seconds": str(seconds),
        }
        return self._run("pace", address, dialogue, options)

    @contextlib.contextmanager
    def mirror(self, flood: bytes = b"") -> Iterator[str]:
        """Run a server that echoes, or that sends `flood` repeatedly; yield its address."""
        words = [str(self._folder / "mirror"), "echo"]
        if flood:
            words[1:] = ["flood", str(self._file(flood))]
        with subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            try:
                assert process.stdout is not None
                yield f"{HOST}:{process.stdout.readline().strip().removeprefix('port=')}"
            finally:
                process.kill()
