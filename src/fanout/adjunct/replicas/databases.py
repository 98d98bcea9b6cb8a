"""Follows discovery in a thread, for the databases of one process.

The process is known to discovery by a record with a lease. As long as it is, whoever replaces a
primary waits for this process to let go of it. When the lease is over nobody waits any more, and
so this process writes no more: not before discovery has it again, and has been read after that.
"""

import contextlib
import math
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Self

import attrs
import structlog
import trio
from sqlalchemy import URL

from fanout.adjunct.replicas.config import RoutingConfig
from fanout.adjunct.replicas.database import Database
from fanout.adjunct.replicas.errors import DatabaseUnknown, LeaseLost
from fanout.adjunct.replicas.records import DATABASE, ROUTER, RouterRecord
from fanout.config import FleetConfig
from fanout.config.readers import read_name
from fanout.errors import ConfigError
from fanout.runtime.registry import Registry
from fanout.runtime.watch import Watch, open_watch
from fanout.runtime.world import fleet_world
from fanout.wire.records import NUMBERS_MAX

log = structlog.get_logger()

HEARTBEATS = 6
"""How often in a lease the record is written."""
LEASE_SAFE = 0.9
"""The part of its lease a process relies on: clocks do not run equally fast."""
RETRY_SECONDS = 1.0
"""How soon a heartbeat that reached nobody is tried again."""
OPEN_LOOK_SECONDS = 0.01
"""Between two looks whether enough is known to begin."""


def _clock() -> float:
    """Return seconds for leases: they also pass while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Databases:
    """The databases of one process, from `open` to `close`; a context manager.

    One thread follows discovery, and one measures each server. Open it after a fork, not before.

    Args:
        fleet: where discovery is.
        urls: of each database, by the name that discovery knows, SQLAlchemy's URL with user,
            password and database. Its host and port do not count: they come from discovery.
        config: how to choose.
        engine_options: further arguments of SQLAlchemy's `create_engine`, for all of them.

    Raises:
        ConfigError: a name is not allowed, a URL cannot be read, or a driver or a TLS file is not
            what it should be.

    """

    def __init__(
        self,
        fleet: FleetConfig,
        urls: Mapping[str, str | URL],
        *,
        config: RoutingConfig | None = None,
        engine_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._fleet = fleet
        self._config = config or RoutingConfig()
        self._world = fleet_world(fleet)
        self._lease_until = -math.inf
        if len(urls) > NUMBERS_MAX:  # others would not read its record, and not wait for it
            raise ConfigError(f"{len(urls)} databases are over {NUMBERS_MAX} for one process")
        self._databases = {
            read_name(name): Database(
                name,
                url,
                self._config,
                engine_options or {},
                require_lease=self._require_lease,
                on_release=self._on_release,
            )
            for name, url in urls.items()
        }
        host = re.sub(r"[^A-Za-z0-9]+", "-", os.uname().nodename)[:32].strip("-")
        self._record = RouterRecord(
            cluster=fleet.cluster,
            router=f"{host or 'host'}-{os.getpid()}-{secrets.token_hex(4)}",
            version=0,
            lease_seconds=self._config.lease_seconds,
            seen={},
        )
        self._thread = threading.Thread(target=self._work, name="fanout-databases", daemon=True)
        self._token: trio.lowlevel.TrioToken | None = None
        self._closing = trio.Event()
        self._moved = trio.Event()  # set by the next change: take it before you look, then wait

    def __getitem__(self, name: str) -> Database:
        """Return a database. Raises DatabaseUnknown for a name without URL."""
        if name not in self._databases:
            known = ", ".join(self._databases) or "none"
            raise DatabaseUnknown(
                f"this process has no URL for a database {name!r}; known: {known}"
            )
        return self._databases[name]

    def open(self) -> Self:
        """Begin; return when discovery knows of this process and every server was measured once.

        At most `timeout_seconds` of the fleet are waited for that. What is not known by then is
        still learnt; without a topology there is TopologyUnknown until then.
        """
        self._thread.start()
        deadline = time.monotonic() + self._fleet.timeout_seconds
        while self._thread.is_alive() and time.monotonic() < deadline:
            measured = all(database.measured for database in self._databases.values())
            if measured and self._lease_until > -math.inf:
                break
            time.sleep(OPEN_LOOK_SECONDS)
        return self

    def close(self) -> None:
        """Write no more, say goodbye to discovery, and close idle connections.

        Waits at most for `timeout_seconds` of the fleet, or twice if discovery was never there.
        """
        self._tell(self._closing.set)
        self._thread.join()
        for database in self._databases.values():
            database.close()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _require_lease(self) -> None:
        if _clock() > self._lease_until and not self._config.write_without_lease:
            raise LeaseLost(
                "discovery has not heard of this process for "
                f"{self._config.lease_seconds:g} seconds, and the primary may have been replaced "
                "meanwhile; writes go on when discovery can be reached"
            )

    def _on_release(self) -> None:
        """Take from any thread that the last transaction on a replaced primary has ended."""
        self._tell(self._move)

    def _tell(self, function: Callable[[], object]) -> None:
        """Have the thread call a function, if it still runs."""
        if self._token is not None:
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(function)

    # In the thread.

    def _work(self) -> None:
        try:
            trio.run(self._run)
        except Exception as error:
            log.error("databases_failed", reason=repr(error))  # noqa: TRY400 - it is raised on
            raise

    async def _run(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        watching = open_watch(self._fleet, (DATABASE, ROUTER), world=self._world, may_be_down=True)
        async with watching as (registry, watch):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_lease, registry, watch)
                nursery.start_soon(self._keep_adopting, watch)
                await self._closing.wait()
                nursery.cancel_scope.cancel()
            self._lease_until = -math.inf
            with trio.move_on_after(self._fleet.timeout_seconds):
                await self._write(registry, gone=True)

    async def _keep_lease(self, registry: Registry, watch: Watch) -> None:
        """Have discovery know this process and what it has let go of."""
        while True:
            moved, began = self._moved, _clock()
            # Be known, then read: whoever replaces a primary tells it first and then looks who is
            # known. So either this process is found, or it finds that there is no primary.
            known = await self._write(registry) and await registry.refresh()
            self._adopt(watch)
            if known:
                self._lease_until = began + LEASE_SAFE * self._config.lease_seconds
            if self._seen() == self._record.seen:
                pause = self._config.lease_seconds / HEARTBEATS if known else RETRY_SECONDS
                with trio.move_on_after(pause):
                    await moved.wait()

    async def _write(self, registry: Registry, *, gone: bool = False) -> int:
        before, seen = self._record, self._seen()
        self._record = attrs.evolve(before, version=before.version + 1, seen=seen, gone=gone)
        news = gone or seen != before.seen or not before.version
        return await registry.write(self._record, news=news)

    def _seen(self) -> dict[str, int]:
        return {name: database.seen for name, database in self._databases.items()}

    async def _keep_adopting(self, watch: Watch) -> None:
        """Adopt what discovery tells as soon as it is known."""
        while True:
            changed = watch.changed
            self._adopt(watch)
            await changed.wait()

    def _adopt(self, watch: Watch) -> None:
        for name, database in self._databases.items():
            record = watch.members(DATABASE).get(name)
            routers = watch.members(ROUTER).values()
            newest = max((router.seen.get(name, 0) for router in routers), default=0)
            # What others are past is from an old dump of discovery, and its primary is not ours.
            if record is not None and record.version >= newest and database.adopt(record):
                self._move()

    def _move(self) -> None:
        moved, self._moved = self._moved, trio.Event()
        moved.set()
