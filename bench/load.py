"""Runs the load generator, which is written in C so as not to be what is measured."""

import contextlib
import json
import selectors
import shutil
import subprocess
import tempfile
import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import attrs

from bench.protocols import MARK, Batch, Dialogue

SOURCE = Path(__file__).with_name("loadgen.c")
STALL_SECONDS = 20.0


class Stalled(Exception):  # noqa: N818 - a fact about a server
    """Messages or replies ceased to come before all were there."""


@attrs.frozen
class Counters:
    """What one generator saw; the times are seconds of the monotonic clock."""

    count: int
    first: float
    last: float
    seconds: float

    @classmethod
    def parse(cls, line: str) -> "Counters":
        """Read a line of the generator."""
        said: dict[str, Any] = json.loads(line)
        first, last = said.pop("first_ns") / 1e9, said.pop("last_ns") / 1e9
        return cls(first=first, last=last, **said)


class Run:
    """A generator that has connected."""

    def __init__(self, process: "subprocess.Popen[str]", latencies: Path) -> None:
        self._process = process
        self._latencies = latencies

    def _pipe(self, pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe

    def hear(self, seconds: float = STALL_SECONDS) -> str:
        """Return the next line. Raises Stalled."""
        out = self._pipe(self._process.stdout)
        with selectors.DefaultSelector() as selector:
            selector.register(out, selectors.EVENT_READ)
            if not selector.select(seconds):
                raise Stalled("the load generator waits for its server")
        line = out.readline()
        if not line:
            raise Stalled("the load generator ended: the server hung up")
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
        """Wait until a sink has counted so many. Raises Stalled when none come any more."""
        seen, moved = self.counters(), time.monotonic()
        while seen.count < count:
            time.sleep(0.01)
            before, seen = seen.count, self.counters()
            if seen.count != before:
                moved = time.monotonic()
            elif time.monotonic() - moved > STALL_SECONDS:
                raise Stalled(f"{seen.count} of {count} messages came")
        return seen

    def go(self, seconds: float) -> Counters:
        """Let a pump or pacer run for its time; return what it counted."""
        self.say("go")
        return Counters.parse(self.hear(seconds + STALL_SECONDS))

    def samples(self) -> "array[int]":
        """Return all latencies in ns, once it has counted."""
        found: array[int] = array("Q")
        found.frombytes(self._latencies.read_bytes())
        return found


class Loadgen:
    """The compiled generator and a folder for its files. Raises FileNotFoundError without cc."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._binary = folder / "loadgen"
        compiler = shutil.which("cc")
        if compiler is None:
            raise FileNotFoundError("the bench needs a C compiler: install gcc")
        subprocess.run([compiler, "-O2", "-o", self._binary, SOURCE], check=True)

    @contextlib.contextmanager
    def _run(
        self, mode: str, address: str, dialogue: Dialogue, options: dict[str, str | bytes]
    ) -> Iterator[Run]:
        """Start a generator, wait until it has connected, and end it afterwards."""
        with tempfile.TemporaryDirectory(dir=self._folder) as files:
            words = [str(self._binary), mode, address]
            for number, (say, until) in enumerate(dialogue):
                path = Path(files, f"say{number}")
                path.write_bytes(say)
                words += ["--say", str(path), "--until", until]
            for name, value in options.items():
                path = Path(files, name)
                if isinstance(value, bytes):
                    path.write_bytes(value)
                words += [f"--{name}", str(path) if isinstance(value, bytes) else value]
            with subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            ) as process:
                try:
                    run = Run(process, Path(files, "latencies"))
                    run.hear()
                    yield run
                finally:
                    process.kill()

    def sink(
        self, address: str, dialogue: Dialogue, connections: int, *, stamped: bool = False
    ) -> contextlib.AbstractContextManager[Run]:
        """Receive on so many connections; `stamped` messages say when they were due."""
        options: dict[str, str | bytes] = {"connections": str(connections), "mark": MARK.decode()}
        return self._run(
            "sink", address, dialogue, options | ({"latencies": b""} if stamped else {})
        )

    def pump(
        self,
        address: str,
        dialogue: Dialogue,
        connections: int,
        batch: Batch,
        seconds: float,
    ) -> contextlib.AbstractContextManager[Run]:
        """Send batch after batch, each when the one before is answered (closed loop)."""
        options: dict[str, str | bytes] = {
            "connections": str(connections),
            "batch": batch.data,
            "replies": str(batch.replies),
            "mark": batch.mark.decode(),
            "seconds": str(seconds),
            "latencies": b"",
        }
        return self._run("pump", address, dialogue, options)

    def pace(
        self, address: str, dialogue: Dialogue, batch: Batch, per_second: float, seconds: float
    ) -> contextlib.AbstractContextManager[Run]:
        """Send a batch at each tick, whatever the server does (open loop)."""
        options: dict[str, str | bytes] = {
            "batch": batch.data,
            "replies": "0",
            "mark": batch.mark.decode(),
            "rate": str(per_second),
            "seconds": str(seconds),
        }
        return self._run("pace", address, dialogue, options)
