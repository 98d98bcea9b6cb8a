"""Real MariaDB servers on loopback, with replication by GTID; each is ended by its id."""

import getpass
import shutil
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pymysql
import pytest

from fanout.runtime.redis.redis_server import free_port
from tests.support.waiting import comes_up

START_SECONDS = 60.0
PORT_ATTEMPTS = 5
PASSWORD = "canary-of-shop"

_SMALL = ("--innodb-buffer-pool-size=8M", "--innodb-log-file-size=4M")
_ACCOUNTS = f"""
FLUSH PRIVILEGES;
CREATE DATABASE shop;
CREATE USER shop@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';
GRANT ALL ON shop.* TO shop@'127.0.0.1';
CREATE USER copier@'127.0.0.1' IDENTIFIED BY 'copier';
GRANT REPLICATION SLAVE ON *.* TO copier@'127.0.0.1';
"""


def find(name: str) -> str:
    """Return the path of one of MariaDB's programs; some are not on the PATH of all users."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.fail(f"{name} is not installed: these tests need Debian's mariadb-server")
    return found


@pytest.fixture(scope="session")
def mariadb_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the accounts; copied, as making one takes seconds."""
    folder = tmp_path_factory.mktemp("mariadb")
    accounts = folder / "accounts.sql"
    accounts.write_text(_ACCOUNTS)
    data = folder / "data"
    done = subprocess.run(
        [
            find("mariadb-install-db"), "--no-defaults", f"--datadir={data}",
            f"--user={getpass.getuser()}", "--auth-root-authentication-method=normal",
            "--skip-test-db", f"--extra-file={accounts}", f"--tmpdir={folder}", *_SMALL,
        ],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return data


class MariaDB:
    """One server."""

    def __init__(self, template: Path, folder: Path, number: int) -> None:
        self._folder = folder
        self._number = number
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        folder.mkdir()
        shutil.copytree(template, folder / "data")

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, with the data it has, and wait until it takes connections."""
        for _ in range(1 if self.port else PORT_ATTEMPTS):
            self.port = self.port or free_port("127.0.0.1")
            if self._start():
                return
            self.stop()
            log, self.port = (self._folder / "log").read_text(), 0
        pytest.fail(f"the mariadbd does not start: {log}")

    def _start(self) -> bool:
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    find("mariadbd"), "--no-defaults", f"--datadir={self._folder / 'data'}",
                    f"--socket={self._folder / 'sock'}", f"--pid-file={self._folder / 'pid'}",
                    f"--port={self.port}", "--bind-address=127.0.0.1", "--skip-name-resolve",
                    f"--user={getpass.getuser()}", f"--server-id={self._number}", "--log-bin=bin",
                    "--log-slave-updates", "--gtid-strict-mode", "--skip-slave-start",
                    # Not one that others have: a server that starts removes their tables there.
                    f"--tmpdir={self._folder}", "--slave-net-timeout=5", "--innodb-flush-log-at-trx-commit=2", *_SMALL,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )  # fmt: skip
        return comes_up(
            self._process,
            lambda: "ready for connections" in (self._folder / "log").read_text(),
            START_SECONDS,
        )

    def signal(self, number: int) -> None:
        """Send a signal to this one process."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        """End it the hard way, also when it is stopped."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def run(self, *statements: str) -> list[Any]:
        """Run statements as root; return the rows of the last."""
        connection = pymysql.connect(
            unix_socket=str(self._folder / "sock"), user="root", autocommit=True
        )
        try:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                return list(cursor.fetchall())
        finally:
            connection.close()

    def connections(self) -> int:
        """Return how many the shop's user has."""
        asked = "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'shop'"
        ((number,),) = self.run(asked)
        return int(number)

    def follow(self, primary: "MariaDB") -> None:
        """Become a replica of `primary`."""
        self.run(
            "STOP SLAVE",
            f"CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={primary.port}, "
            "MASTER_USER='copier', MASTER_PASSWORD='copier', MASTER_USE_GTID=slave_pos, "
            "MASTER_CONNECT_RETRY=1",
            "SET GLOBAL read_only=1",
            "START SLAVE",
        )

    def lead(self) -> None:
        """Become a primary."""
        self.run("STOP SLAVE", "RESET SLAVE ALL", "SET GLOBAL read_only=0")

    def catch_up(self, primary: "MariaDB") -> None:
        """Wait until all that the primary has now has been applied."""
        ((position,),) = primary.run("SELECT @@global.gtid_binlog_pos")
        ((late,),) = self.run(f"SELECT MASTER_GTID_WAIT('{position}', 30)")
        assert late == 0, f"{self.address} does not come to {position}"


@pytest.fixture
def servers(mariadb_template: Path, tmp_path: Path) -> Iterator[list[MariaDB]]:
    """A primary and two replicas, with a table `shop.item` that all have."""
    started: list[MariaDB] = []
    try:
        for number in (1, 2, 3):
            server = MariaDB(mariadb_template, tmp_path / f"mariadb-{number}", number)
            started.append(server)
        with ThreadPoolExecutor() as threads:
            list(threads.map(MariaDB.start, started))
        primary, *replicas = started
        for replica in replicas:
            replica.follow(primary)
        primary.run("CREATE TABLE shop.item (id INT AUTO_INCREMENT PRIMARY KEY, name TEXT)")
        for replica in replicas:
            replica.catch_up(primary)
        yield started
    finally:
        for server in started:
            server.stop()
