"""A real authoritative name server, Knot DNS, on a port of its own."""

import shutil
import signal
import subprocess
from pathlib import Path
from typing import Self

import dns.asyncquery
import dns.message
import dns.rdatatype
import pytest

from fanout.runtime.redis.redis_server import free_port
from tests.support.waiting import comes_up

ZONE = "example.test"
SECRET = "c2VjcmV0LWNhbmFyeS1zZWNyZXQtY2FuYXJ5"
START_SECONDS = 20.0
PORT_ATTEMPTS = 5

CONFIG = """
server:
    rundir: "{folder}"
    listen: 127.0.0.1@{port}
log:
  - target: stdout
    any: info
database:
    storage: "{folder}/db"
    journal-db-max-size: 256M
key:
  - id: fanout
    algorithm: hmac-sha256
    secret: {secret}
  - id: reader
    algorithm: hmac-sha256
    secret: {secret}
acl:
  - id: updates
    key: fanout
    action: [update, query]
  - id: queries
    key: reader
    action: query
zone:
  - domain: {zone}
    storage: "{folder}"
    file: zone
    acl: [updates, queries]
"""

RECORDS = """
@ 3600 SOA ns admin 1 3600 600 86400 5
@ 3600 NS ns
ns 3600 A 127.0.0.1
alias 3600 CNAME ns
"""


class Knot:
    """One knotd, ended with the block; its zone is kept while it is stopped."""

    def __init__(self, folder: Path) -> None:
        path = shutil.which("knotd") or shutil.which("knotd", path="/usr/sbin:/usr/local/sbin")
        if path is None:
            pytest.skip("needs knotd: apt install knot")
        self._path = path
        self._folder = folder
        (folder / "zone").write_text(RECORDS)
        (folder / "db").mkdir()
        self._process: subprocess.Popen[bytes] | None = None
        for _ in range(PORT_ATTEMPTS):
            self.port = free_port("127.0.0.1")
            if self.start():
                return
        pytest.fail(f"no knotd starts; {self.log}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def log(self) -> str:
        """What it has said."""
        log = self._folder / "log"
        return log.read_text() if log.exists() else ""

    def start(self) -> bool:
        """Start it and wait until it serves; False when it ended instead."""
        config = self._folder / "conf"
        config.write_text(
            CONFIG.format(folder=self._folder, port=self.port, secret=SECRET, zone=ZONE)
        )
        before = len(self.log)
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._path, "-c", str(config)], stdout=log, stderr=subprocess.STDOUT
            )

        def is_up() -> bool:
            said = self.log[before:]
            return "server started" in said and "cannot bind" not in said

        if comes_up(self._process, is_up, START_SECONDS):
            return True
        self.stop()
        return False

    def stop(self) -> None:
        """End it, in order where it can be."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    async def look_up(self, name: str, kind: str = "A") -> tuple[set[str], int]:
        """Return what a name leads to, and for how long resolvers may keep it; (empty, 0)."""
        answer = await self._ask(f"{name}.{ZONE}.", kind)
        records = answer.get_rrset(
            answer.answer, answer.question[0].name, answer.question[0].rdclass,
            dns.rdatatype.from_text(kind),
        )  # fmt: skip
        return ({str(each) for each in records}, records.ttl) if records else (set(), 0)

    async def serial(self) -> int:
        """Return how often the zone was changed."""
        answer = await self._ask(f"{ZONE}.", "SOA")
        (soa,) = answer.answer[0]
        return int(soa.serial)

    async def _ask(self, name: str, kind: str) -> dns.message.Message:
        query = dns.message.make_query(name, kind)
        return await dns.asyncquery.udp(query, "127.0.0.1", 5, self.port)
