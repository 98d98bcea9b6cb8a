"""A real PostgreSQL primary with a replica on loopback; each is ended by its id."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from fanout.runtime.redis.redis_server import free_port
from tests.support.waiting import comes_up

START_SECONDS = 60.0
PORT_ATTEMPTS = 5
USER = "postgres" if os.getuid() == 0 else None
"""PostgreSQL refuses to run as root; Debian's package makes this user."""


def find(name: str) -> str:
    """Return the path of one of PostgreSQL's programs; Debian keeps them off the PATH."""
    folders = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
    found = shutil.which(name, path=os.pathsep.join([*folders, os.environ["PATH"]]))
    if found is None:
        pytest.fail(f"{name} is not installed: these tests need Debian's postgresql")
    return found


class PostgreSQL:
    """One server."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"127.0.0.1:{self.port}"

    def make(self) -> None:
        """Make it with no data."""
        self._do("initdb", "-D", str(self._folder), "-U", "postgres", "--auth=trust", "--no-sync")

    def copy(self, primary: "PostgreSQL") -> None:
        """Make it a replica."""
        self._do("pg_basebackup", "-D", str(self._folder), "-h", "127.0.0.1", "-p",
            str(primary.port), "-U", "postgres", "--write-recovery-conf", "--checkpoint=fast",
            "--no-sync")  # fmt: skip

    def start(self) -> None:
        """Start it on a free port and wait until it takes connections."""
        for _ in range(PORT_ATTEMPTS):
            self.port = free_port("127.0.0.1")
            self._process = subprocess.Popen(
                [
                    find("postgres"), "-D", str(self._folder), "-p", str(self.port), "-h",
                    "127.0.0.1", "-k", str(self._folder), "-c", "fsync=off",
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                user=USER,
                cwd=self._folder,
            )  # fmt: skip
            if comes_up(self._process, self._takes_connections, START_SECONDS):
                return
            self.stop()
        pytest.fail("the postgres does not start")

    def _takes_connections(self) -> bool:
        try:
            self.run("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> None:
        """End it: SIGQUIT ends its children too, which SIGKILL would leave behind."""
        if self._process is not None:
            self._process.send_signal(3)
            self._process.wait()
            self._process = None

    def run(self, statement: str) -> list[Any]:
        """Run a statement as its owner, over its Unix socket; return the rows."""
        socket = str(self._folder)
        with psycopg.connect(
            host=socket, port=self.port, user="postgres", autocommit=True
        ) as connection:
            found = connection.execute(statement)
            return found.fetchall() if found.description else []

    def _do(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [find(program), *arguments],
            check=True,
            capture_output=True,
            user=USER,
            cwd=self._folder.parent,
        )


@pytest.fixture
def pair() -> Iterator[tuple[PostgreSQL, PostgreSQL]]:
    """A primary and a replica, with a table `item` that both have."""
    with tempfile.TemporaryDirectory() as folder:  # pytest's own can be entered by root only
        if USER:
            shutil.chown(folder, USER)
        primary, replica = PostgreSQL(Path(folder, "a")), PostgreSQL(Path(folder, "b"))
        try:
            primary.make()
            primary.start()
            primary.run("CREATE TABLE item (id SERIAL PRIMARY KEY, name TEXT)")
            replica.copy(primary)
            replica.start()
            yield primary, replica
        finally:
            replica.stop()
            primary.stop()
