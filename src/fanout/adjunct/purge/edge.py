"""The agent beside a cache: takes purges from the fleet, applies them, and reports."""

import random
from collections.abc import Iterable

import trio

from fanout.adjunct.purge.caches import Cache, open_cache
from fanout.adjunct.purge.message import (
    Outcome,
    Report,
    UnknownVersion,
    decode_purge,
    purge_channel,
    report_channel,
)
from fanout.adjunct.purge.plan import Effect, Emptied, Plan
from fanout.adjunct.purge.sidecar import open_sidecar
from fanout.client import Client, Gap, Message
from fanout.config import EdgeConfig
from fanout.errors import RemoteProtocolError, RequestFailed
from fanout.runtime.console import print_line
from fanout.runtime.logs import FloodLog, log
from fanout.runtime.signals import until_stopped
from fanout.wire.records import encode_record

WORKERS = 8
"""Requests to a cache at a time: an API far away answers slowly."""

REPORTS_MAX = 1000
"""Reports that may wait for the sidecar. What is dropped is asked for again by whoever waits."""

LOOK_SECONDS = 1.0
"""Between two looks whether the sidecar is there."""


async def run_edge(config: EdgeConfig) -> int:
    """Serve as the edge of a cache until told to stop; return the exit code.

    One line is printed when all that was stored before is purged: from then on a purge that is
    published reaches the cache. Neither a sidecar nor a cache that is away ends it.

    Raises:
        ConfigError: a file of certificates cannot be read.
        RequestFailed: the sidecar does not allow to subscribe.

    """
    async with until_stopped(), open_cache(config) as cache, open_sidecar(config) as client:
        await Edge(config, cache, client).run()
    return 0


class Edge:
    """One cache's agent."""

    def __init__(self, config: EdgeConfig, cache: Cache, client: Client) -> None:
        self._config = config
        self._cache = cache
        self._client = client
        self._plan = Plan(
            config.id,
            random.Random(),  # noqa: S311 - spreads retries
            settle_seconds=config.settle_seconds,
            everything_interval_seconds=config.everything_interval_seconds,
            attempts_max=config.attempts_max,
        )
        self._changed = trio.Event()
        self._reports, self._to_send = trio.open_memory_channel[Report](REPORTS_MAX)
        self._flood_log = FloodLog()
        self._ready = False

    async def run(self) -> None:
        """Work until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            await self._client.subscribe(purge_channel(self._config.pool))
            # Only now: what is published from here on is heard.
            nursery.start_soon(self._report)
            for _ in range(WORKERS):
                nursery.start_soon(self._work)
            await self._listen()

    async def _listen(self) -> None:
        async for event in self._client:
            now = trio.current_time()
            if isinstance(event, Gap):
                log.warning("gap_seen", node=event.node, reason=event.reason)
                self._plan.owe("gap", now)
            elif isinstance(event, Message):
                self._take(event.data, now)
            self._wake()

    def _take(self, data: bytes, now: float) -> None:
        try:
            purge = decode_purge(data)
        except UnknownVersion:
            self._flood_log.warning("purge_of_unknown_version", code="version")
            self._plan.owe("unknown_version", now)
        except RemoteProtocolError as error:
            self._flood_log.warning("purge_unreadable", code="unreadable", why=ascii(str(error)))
        else:
            log.info(
                "purge_received",
                id=purge.id,
                origin=purge.origin,
                kind=purge.target.kind.value,
                names=len(purge.target.names),
            )
            self._tell(self._plan.receive(purge, now))

    async def _work(self) -> None:
        while True:
            job = self._plan.take(trio.current_time())
            if job is None:
                with trio.move_on_at(self._plan.next_deadline()):
                    await self._changed.wait()
                continue
            failure = await self._cache.apply(job.target)
            if failure is not None:
                self._flood_log.warning("cache_failed", code=failure.code, why=failure.message)
            elif not job.settled:
                log.debug("purge_applied_once", ids=job.ids)
            self._tell(self._plan.finish(job, trio.current_time(), failure))
            self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _tell(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Emptied):
                log.info("everything_purged", because=effect.because)
                if not self._ready:
                    self._ready = True
                    print_line(f"ready edge={self._config.id} cache={self._config.cache}")
                continue
            if effect.outcome is not Outcome.PENDING:
                log.info(
                    "purge_done",
                    id=effect.id,
                    edge=effect.edge,
                    outcome=effect.outcome.value,
                    code=effect.code,
                    message=effect.message,
                )
            try:
                self._reports.send_nowait(effect)
            except trio.WouldBlock:
                self._flood_log.warning("report_dropped", code="overflow")

    async def _report(self) -> None:
        channel = report_channel(self._config.pool)
        async for report in self._to_send:
            try:
                await self._client.publish(channel, encode_record(report))
            except RequestFailed as failure:
                self._flood_log.warning("report_failed", code=failure.code, why=str(failure))

    async def _watch(self) -> None:
        """Log when the sidecar is away and when it is back."""
        told = ""
        while True:
            trouble = self._client.trouble
            if trouble and not told:
                log.warning("sidecar_away", sidecar=self._config.sidecar, why=trouble)
            elif told and not trouble:
                log.info("sidecar_back", sidecar=self._config.sidecar)
            told = trouble
            await trio.sleep(LOOK_SECONDS)
