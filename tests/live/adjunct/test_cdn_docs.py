"""The worked example of docs/cdn.md, pasted into a shell as it stands."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from fanout.runtime.redis.redis_server import free_port
from tests.support.live.fleet import Process

pytestmark = pytest.mark.live

DOCS = Path(__file__).parents[3] / "docs"
PORTS = ("8080", "6081")


def blocks() -> list[str]:
    """Return the blocks that are marked to be run."""
    text = (DOCS / "cdn.md").read_text()
    return re.findall(r"<!-- run -->\n```sh\n(.*?)```", text, re.DOTALL)


@contextmanager
def shell(folder: Path, env: dict[str, str]) -> Iterator[Process]:
    """Run a shell in a folder; whatever it started is ended with its process group."""
    log = folder / "log"
    with log.open("wb") as stderr:
        popen = subprocess.Popen(
            ["bash"],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={**os.environ, **env},
            start_new_session=True,
        )
    try:
        with popen:
            yield Process(popen, log=log)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(popen.pid, signal.SIGKILL)


def test_the_example_runs_as_pasted(tmp_path: Path) -> None:
    """Two equal pages, a purge that one edge has applied, and another page; then nothing is left."""
    start, try_it, end = blocks()
    ports = {port: str(free_port("127.0.0.1")) for port in PORTS}
    examples = tmp_path / "docs" / "examples"
    shutil.copytree(DOCS / "examples", examples)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    vcl = examples / "varnish.vcl"
    vcl.write_text(_moved(vcl.read_text(), ports))
    ws = f"127.0.0.1:{free_port('127.0.0.1')}"
    env = {
        "FANOUT_RESP": f"unix:{tmp_path}/resp",
        "FANOUT_WS": ws,
        "FANOUT_ADMIN": "127.0.0.1:0",
        "FANOUT_SIDECAR": f"ws://{ws}/",
    }
    with shell(tmp_path, env) as process:
        stdin = process.popen.stdin
        assert stdin is not None
        stdin.write(_moved(start, ports).encode())
        stdin.flush()
        process.wait_line("ready edge=edge-1 cache=varnish")
        process.said = b""
        stdin.write(_moved(try_it, ports).encode() + b"echo shown\n")
        stdin.flush()
        process.wait_line("shown")
        lines = process.said.decode().splitlines()
        before, again, after = (line for line in lines if line.startswith("made at "))
        assert before == again != after
        assert any(re.fullmatch(r"edge-1 +applied", line) for line in lines)
        assert re.search(
            r"^purge \w+: applied by 1 of 1 edges$", process.said.decode(), re.MULTILINE
        )
        stdin.write(end.encode())
        stdin.close()
        process.popen.wait(60)
    for port in ports.values():
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", int(port)))


def _moved(text: str, ports: dict[str, str]) -> str:
    """Return a text with free ports in place of its own."""
    for port, free in ports.items():
        text = text.replace(port, free)
    return text
