"""What the tests of purges have in common: an origin of pages, and Varnish in front of it."""

import json
import os
import re
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import attrs
import httpx
import pytest
import trio
from hypercorn.config import Config
from hypercorn.trio import serve

from fanout.adjunct.pages import App, CacheHeaders, CachePolicy, Receive, Scope, Send, tag
from tests.support.live.fleet import START_SECONDS, Fleet, Process, command
from tests.support.waiting import comes_up

VCL = Path(__file__).parents[3] / "docs" / "examples" / "varnish.vcl"
HOST = "www.example.com"
PAGE_SECONDS = 3600
MANY_KEYS = [f"{number:02}" + "x" * 248 for number in range(29)]
"""As many as a page may have; on the page `/many`."""

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Spares each client of plain HTTP the time to read certificates."""


@attrs.define(eq=False)
class Origin:
    """Serves pages that say which version they are, with two keys: their path and `all-pages`.

    `/slow` reads the version, and then answers only when `release` is set.
    """

    port: int = 0
    version: int = 1
    delay_seconds: float = 0.0
    asked: list[str] = attrs.field(factory=list)
    _asked_now: trio.Event = attrs.field(factory=trio.Event)
    release: trio.Event = attrs.field(factory=trio.Event)

    async def app(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Serve a page."""
        path = scope["path"]
        self.asked.append(path)
        self._asked_now.set()
        tag(scope, path.strip("/") or "home", "all-pages", *MANY_KEYS * (path == "/many"))
        body = f"version {self.version}".encode()  # read first: it may be old when it is sent
        await trio.sleep(self.delay_seconds)
        if path == "/slow":
            await self.release.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    async def wait_asked(self) -> None:
        """Wait until a page is asked for, unless one was since `asked` was cleared."""
        if not self.asked:
            self._asked_now = trio.Event()
            await self._asked_now.wait()


@asynccontextmanager
async def serving(app: App) -> AsyncIterator[int]:
    """Serve an ASGI application on a free port; yield it."""
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.errorlog = config.accesslog = None
    config.graceful_timeout = 0.1
    async with trio.open_nursery() as nursery:
        binds = await nursery.start(partial(serve, cast("Any", app), config, mode="asgi"))
        yield int(binds[0].rpartition(":")[2])
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_origin() -> AsyncIterator[Origin]:
    """Serve pages that caches keep for an hour."""
    origin = Origin()
    policy = CachePolicy(shared_seconds=PAGE_SECONDS)
    async with serving(CacheHeaders(origin.app, policy)) as origin.port:
        yield origin


@attrs.frozen
class Varnish:
    """A running Varnish."""

    process: Process
    folder: Path
    port: int

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def worker_pid(self) -> int:
        """The process id of the child that serves."""
        return int(_ask(self.folder, "pid").rpartition(" ")[2])

    async def get(self, path: str, host: str = HOST) -> str:
        """Return a page as a visitor sees it."""
        async with httpx.AsyncClient(
            base_url=self.url, verify=NO_TLS, timeout=START_SECONDS
        ) as client:
            answer = await client.get(path, headers={"Host": host})
            assert answer.status_code == 200
            assert "surrogate-key" not in answer.headers
            return answer.text


def start_varnish(fleet: Fleet, folder: Path, origin: Origin, port: int = 0) -> Varnish:
    """Start Varnish with the VCL of the documentation in front of an origin."""
    folder.mkdir(exist_ok=True)
    text = VCL.read_text()
    assert '"8080"' in text
    vcl = folder / "default.vcl"
    vcl.write_text(text.replace('"8080"', f'"{origin.port}"'))
    process = fleet.start(
        "varnishd", "-F", "-j", "none", "-n", str(folder), "-a", f"127.0.0.1:{port}",
        "-f", str(vcl), "-s", "default,16m", "-p", "thread_pool_min=5",
    )  # fmt: skip
    listens: list[str] = []

    def is_up() -> bool:
        listens[:] = re.findall(r"127\.0\.0\.1 (\d+)", _ask(folder, "debug.listen_address"))
        return bool(listens)

    if comes_up(process.popen, is_up, START_SECONDS):
        return Varnish(process, folder, int(listens[0]))
    pytest.fail(f"no varnishd: {process.log.read_text()}")


def _ask(folder: Path, *words: str) -> str:
    """Ask a Varnish for what its administrator may know; empty while it does not answer."""
    done = subprocess.run(
        ["varnishadm", "-n", str(folder), *words], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def start_edge(
    fleet: Fleet, name: str, sidecar: Process, *extra: str, env: dict[str, str] | None = None
) -> Process:
    """Start an edge; it is not waited for."""
    return fleet.start(
        command("fanout-sidecar"), "edge", "--id", name, "--sidecar", sidecar.ready["ws"],
        "--log-format=json", "--log-level=debug", *extra, env=env,
    )  # fmt: skip


def start_varnish_edge(
    fleet: Fleet, name: str, sidecar: Process, varnish: Varnish, *extra: str
) -> Process:
    """Start the edge of a Varnish and wait until it is ready."""
    edge = start_edge(fleet, name, sidecar, "--cache=varnish", "--cache-url", varnish.url, *extra)
    edge.wait_line("ready ")
    return edge


async def purge(
    sidecar: Process, *arguments: str, env: dict[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    """Purge by the installed command; return its exit code and what it printed."""
    done = await trio.run_process(
        [
            command("fanout-sidecar"),
            "purge",
            "--sidecar",
            sidecar.ready["ws"],
            "--json",
            *arguments,
        ],
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        env={**os.environ, **(env or {})},
    )
    assert not done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout)


def outcomes(answer: dict[str, Any]) -> dict[str, str]:
    """Return what each edge said, as the command printed it."""
    return {edge: each["outcome"] for edge, each in answer["edges"].items()}


async def wait_log(process: Process, event: str, **values: object) -> dict[str, Any]:
    """Wait for a line of a log; return it."""
    with trio.fail_after(START_SECONDS):
        while True:
            for line in process.log.read_text().splitlines(keepends=True):
                entry = json.loads(line) if line.endswith("\n") else {}
                if entry.get("event") == event and values.items() <= entry.items():
                    return cast("dict[str, Any]", entry)
            await trio.sleep(0.05)
