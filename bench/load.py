"""Runs the load generator, which is written in C so as not to be what is measured."""

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
    """Messages or replies ceased to come before all were there, or too many came."""


@attrs.frozen
class Counters:
    """What one generator saw; the times are seconds of the monotonic clock.

    `closed` is how many of its connections the server has hung up on.
    """

    count: int
    first: float
    last: float
    seconds: float
    closed: int

    @classmethod
    def parse(cls, line: str) -> "Counters":
        """Read a line of the generator."""
        said: dict[str, Any] = json.loads(line)
        first, last = said.pop("first_ns") / 1e9, said.pop("last_ns") / 1e9
        return cls(first=first, last=last, **said)


class Run:
    """One generator that has connected."""

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
        """Return the next line. Raises Stalled."""
        out = self._pipe(self._process.stdout)
        with selectors.DefaultSelector() as selector:
            selector.register(out, selectors.EVENT_READ)
            if not selector.select(seconds):
                raise Stalled("the server does not answer any more")
        line = out.readline()
        if not line:
            raise Stalled(self._pipe(self._process.stderr).read().strip())
        return line

    def say(self, line: str) -> None:
        """Give it a line."""
        pipe = self._pipe(self._process.stdin)
        pipe.write(line + "\n")
        pipe.flush()

    def counters(self) -> Counters:
        """Return what a sink has counted so far."""
        self.say("count")
        return Counters.parse(self.hear())

    def wait(self, count: int) -> Counters:
        """Wait until a sink has counted so many.

        Raises:
            Stalled: none come any more, or more came.

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
            hung = f", hung up on {seen.closed} of {self.connections}" if seen.closed else ""
            raise Stalled(f"{seen.count} of {count} messages came{hung}")
        return seen

    def result(self, seconds: float) -> Counters:
        """Return what a pump or pacer counted, once it has run for its time."""
        return Counters.parse(self.hear(seconds + STALL_SECONDS))

    def samples(self) -> "array[int]":
        """Return all latencies in ns, once it has counted."""
        found: array[int] = array("Q")
        found.frombytes(self._latencies.read_bytes())
        return found


@attrs.frozen
class Ledger:
    """What of one trial is on its way, in deliveries; `window` is how many may be."""

    path: Path
    window: int


class Loadgen:
    """The compiled generator and a folder for its files. Raises Missing without a compiler."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()
        compiler = shutil.which("cc")
        if compiler is None:
            raise Missing("the bench needs a C compiler: apt install gcc libc6-dev")
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
        """Start a generator, wait until it has connected, and end it afterwards."""
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
                # The latencies are the last option, so theirs is the last file.
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
        """Receive on so many connections; `stamped` messages say when they were due."""
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
        """Send batch after batch, each when the one before is answered (closed loop).

        With a ledger a batch, of `each` deliveries, also waits until its window is open.
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
        """Send a batch at each tick, whatever the server does (open loop)."""
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
        """Run a server that echoes, or that sends `flood` over and over; yield its address."""
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
