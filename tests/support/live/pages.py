"""Runs the commands of a page of the documentation on this machine, as a reader would.

Addresses stand for others: those of the pages would be taken, or are not ours. Lines that start a
member run until the end of the test, and so do subscribers; every other line must succeed.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import attrs

from fanout.runtime.redis.redis_server import free_port
from tests.support.documents import DOCS
from tests.support.live.fleet import FAST, Fleet, Process
from tests.support.waiting import until

ADDRESS = re.compile(r"10\.0\.0\.\d+:6379|127\.0\.0\.1:\d+|localhost:\d+|(?<=-p )\d+")
"""What of a page is replaced: nodes and discovery, doors, and the port given to redis-cli."""

BLOCK = re.compile(r"(<!-- not run: [^\n]+ -->\n)?```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)

SERVICE = re.compile(r"fanout-(node|sidecar) --")


def lines_of(page: str) -> list[str]:
    """Return the commands of a page that are run, comments left out."""
    text = (DOCS / page).read_text()
    found = [block for excuse, block in BLOCK.findall(text) if not excuse]
    return [line for block in found for line in block.splitlines() if line.strip()]


@attrs.define
class Page:
    """The state of a reader: environment, folder, ports, and listening processes."""

    fleet: Fleet
    folder: Path
    environment: dict[str, str] = attrs.field(factory=dict)
    said: list[str] = attrs.field(factory=list)
    listeners: list[Process] = attrs.field(factory=list)
    _ports: dict[str, str] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": path}
        for flag in FAST:
            name, _, value = flag.removeprefix("--").partition("=")
            self.environment[f"FANOUT_{name.upper().replace('-', '_')}"] = value
        for door, port in (("RESP", 6380), ("WS", 7380), ("ADMIN", 9380)):
            self.environment[f"FANOUT_{door}"] = f"127.0.0.1:{self.port(str(port))}"

    def port(self, port: str) -> str:
        """Return the free port that stands for one of a page's."""
        return self._ports.setdefault(port, str(free_port("127.0.0.1")))

    def here(self, text: str) -> str:
        """Put addresses of this machine in the place of the page's."""

        def replace(found: re.Match[str]) -> str:
            host, _, port = found[0].rpartition(":")
            if host.startswith("10."):
                return f"127.0.0.1:{self.port(host)}"
            return f"{host}:{self.port(port)}" if host else self.port(port)

        return ADDRESS.sub(replace, text)

    def redis(self, address: str) -> None:
        """Run a Redis at one of the page's addresses."""
        host = address.partition(":")[0]
        server, port = self.fleet.redis()
        self._ports[host] = str(port)
        assert server.popen.poll() is None

    def run(self, page: str) -> None:
        """Run the whole page."""
        for line in lines_of(page):
            self.run_line(self.here(line))

    def run_line(self, line: str) -> None:
        """Run one command: in the background if it does not end by itself."""
        words = shlex.split(line, comments=True)
        if SERVICE.match(line) or "SUBSCRIBE" in words:
            # The door stands for the sidecar's usual one; an agent has none unless told.
            without = "unset FANOUT_ADMIN && " if line.startswith("fanout-node") else ""
            process = self.fleet.start(
                "bash", "-c", f"cd {shlex.quote(str(self.folder))} && {without}exec {line}",
                env=self.environment,
            )  # fmt: skip
            if "SUBSCRIBE" in words:
                self.listeners.append(process)
                assert process.says(b"subscribe"), line
            else:
                process.wait_line("ready resp=" if "fanout-sidecar" in line else "ready ")
            return
        kept = self.folder / "environment"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f"{line}\nenv -0 > {shlex.quote(str(kept))}"],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        self.said.append(done.stdout)
        variables = kept.read_text().split("\0")
        self.environment = dict(each.split("=", 1) for each in variables if each)

    def heard(self, text: str) -> None:
        """Wait until each subscriber of the page got a message."""
        assert self.listeners
        for listener in self.listeners:
            assert listener.says(text.encode())


def whole(page: Page) -> None:
    """Wait until the fleet is whole."""

    def status() -> bool:
        done = subprocess.run(
            ["fanout-node", "status"], env=page.environment, capture_output=True, check=False
        )
        return done.returncode == 0

    until(status)
