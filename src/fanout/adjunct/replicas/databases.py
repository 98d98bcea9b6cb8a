"""Follows discovery and measures servers in a thread, for the databases of one process.

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
from collections.abc import Mapping
from typing import Any, Self

import attrs
import structlog
import trio
from sqlalchemy import URL

from fanout.adjunct.replicas.config import RoutingConfig
from fanout.adjunct.replicas.database import Database
from fanout.adjunct.replicas.errors import DatabaseUnknown, LeaseLost
from fanout.adjunct.replicas.records import (
    DATABASE,
    DATABASES_MAX,
    ROUTER,
    RouterRecord,
    database_name,
)
from fanout.config import FleetConfig, TlsFiles
from fanout.errors import ConfigError, RegistryUnavailable
from fanout.runtime.certificates import Contexts
from fanout.runtime.registry import Registry
from fanout.runtime.watch import Watch, open_watch
from fanout.runtime.world import real_world
from fanout.values import Endpoint

log = structlog.get_logger()

HEARTBEATS = 6
"""How often in a lease the record is written."""
LEASE_SAFE = 0.9
"""The part of its lease a process relies on: clocks do not run equally fast."""
RETRY_SECONDS = 1.0
"""How soon a heartbeat that reached nobody is tried again, and discovery that was never read."""


def _clock() -> float:
    """Return seconds for leases: they also pass while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Databases:
    """The databases of one process, from `open` to `close`; a context manager.

    One thread follows discovery and measures the servers. Open it after a fork, not before.

    Args:
        fleet: where discovery is.
        urls: of each database, by the name that discovery knows, SQLAlchemy's URL with user,
            password and database. Its host and port do not count: they come from discovery.
        config: how to choose.
        engine_options: further arguments of SQLAlchemy's `create_engine`, for all of them.

    Raises:
        ConfigError: a name is not allowed, a URL cannot be read, or a driver or a TLS file is not what it should be.

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
        self._world = real_world(Contexts(TlsFiles.of(fleet)))
        self._lease_until = -math.inf
        if len(urls) > DATABASES_MAX:  # others would not read its record, and not wait for it
            raise ConfigError(f"{len(urls)} databases are over {DATABASES_MAX} for one process")
        self._databases = {
            database_name(name): Database(
                name,
                url,
                self._config,
                require_lease=self._require_lease,
                on_release=self._on_release,
                engine_options=engine_options,
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
        self._opened = threading.Event()
        self._thread = threading.Thread(target=self._work, name="fanout-databases", daemon=True)
        self._token: trio.lowlevel.TrioToken | None = None
        self._closing = trio.Event()
        self._read = False  # whether discovery has been read
        self._moved = trio.Event()  # set by the next change: take it before you look, then wait
        self._limiter = trio.CapacityLimiter(math.inf)  # there is one thread a server at most

    def __getitem__(self, name: str) -> Database:
        """Return a database. Raises DatabaseUnknown for a name without URL."""
        if name not in self._databases:
            known = ", ".join(self._databases) or "none"
            raise DatabaseUnknown(
                f"this process has no URL for a database {name!r}; known: {known}"
            )
        return self._databases[name]

    def open(self) -> Self:
        """Begin; return when discovery has been read and every server been measured once.

        At most `timeout_seconds` of the fleet are waited for that. What is not known by then is
        still learnt; without a topology there is TopologyUnknown until then.
        """
        self._thread.start()
        self._opened.wait(self._fleet.timeout_seconds)
        return self

    def close(self) -> None:
        """Write no more, say goodbye to discovery, and close idle connections.

        Waits at most for `timeout_seconds` of the fleet, or twice if discovery was never there.
        """
        if self._token is not None:
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._closing.set)
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

    # In the thread.

    def _work(self) -> None:
        try:
            trio.run(self._run)
        except Exception as error:
            log.error("databases_failed", reason=repr(error))  # noqa: TRY400 - it is raised on
            raise
        finally:
            self._opened.set()

    async def _run(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            for database in self._databases.values():
                nursery.start_soon(self._keep_measuring, database)
            told = ""
            while not self._closing.is_set():
                try:
                    await self._follow()
                except* RegistryUnavailable as errors:
                    if (reason := str(errors.exceptions[0])) != told:
                        log.warning("discovery_unavailable", reason=reason)
                        told = reason
                with trio.move_on_after(RETRY_SECONDS):
                    await self._closing.wait()
            nursery.cancel_scope.cancel()

    async def _follow(self) -> None:
        """Follow discovery, from when it can first be read, until this is to end."""
        kinds = (DATABASE, ROUTER)
        async with open_watch(self._fleet, kinds, world=self._world) as (registry, watch):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_lease, registry, watch)
                nursery.start_soon(self._keep_adopting, watch)
                await self._closing.wait()
                nursery.cancel_scope.cancel()
            self._lease_until = -math.inf
            with trio.move_on_after(self._fleet.timeout_seconds):
                await self._write(registry, gone=True)

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
            if record is not None and record.version >= newest and database.adopt(record.topology):
                self._move()

    async def _keep_lease(self, registry: Registry, watch: Watch) -> None:
        """Have discovery know this process and what it has let go of."""
        while True:
            moved = self._moved
            began = _clock()
            # Be known, then read: whoever replaces a primary tells it first and then looks who is
            # known. So either this process is found, or it finds that there is no primary.
            known = await self._write(registry) and await registry.refresh()
            self._adopt(watch)
            if known:
                self._lease_until = began + LEASE_SAFE * self._config.lease_seconds
            self._read = True
            self._look_opened()
            pause = self._config.lease_seconds / HEARTBEATS if known else RETRY_SECONDS
            if self._seen() == self._record.seen:
                with trio.move_on_after(pause):
                    await moved.wait()

    async def _write(self, registry: Registry, *, gone: bool = False) -> int:
        before = self._record
        self._record = attrs.evolve(
            before, version=before.version + 1, seen=self._seen(), gone=gone
        )
        news = gone or self._record.seen != before.seen or not before.version
        return await registry.write(self._record, news=news)

    def _seen(self) -> dict[str, int]:
        return {name: database.seen for name, database in self._databases.items()}

    def _move(self) -> None:
        moved, self._moved = self._moved, trio.Event()
        moved.set()

    def _on_release(self) -> None:
        """Take from any thread that the last transaction on a replaced primary has ended."""
        if self._token is not None:
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._move)

    async def _keep_measuring(self, database: Database) -> None:
        busy: set[Endpoint] = set()
        async with trio.open_nursery() as nursery:
            while True:
                moved = self._moved
                for endpoint in database.servers():
                    if endpoint not in busy:
                        busy.add(endpoint)
                        nursery.start_soon(self._measure, database, endpoint, busy)
                await trio.to_thread.run_sync(database.sweep, limiter=self._limiter)
                with trio.move_on_after(self._config.measure_interval_seconds):
                    await moved.wait()

    async def _measure(self, database: Database, endpoint: Endpoint, busy: set[Endpoint]) -> None:
        """Measure one server. A thread that hangs is left alone; there is no second one then."""

        def measure() -> None:
            try:
                database.measure(endpoint)
            finally:
                busy.discard(endpoint)

        limit = self._config.measure_timeout_seconds
        with trio.move_on_after(limit) as scope:
            await trio.to_thread.run_sync(measure, abandon_on_cancel=True, limiter=self._limiter)
        if scope.cancelled_caught:
            reason = f"no answer within {limit:g} seconds"
            database.observe(endpoint, None, time.monotonic(), reason)
        self._look_opened()

    def _look_opened(self) -> None:
        if self._read and all(database.measured for database in self._databases.values()):
            self._opened.set()
