"""The agent beside a cache: takes purges from the fleet, has the cache apply them, and reports.

- A purge is taken once, by its id; whoever repeats it gets the last report about it.
- It is applied, and once more after `settle_seconds`: an answer of the origin that was on its way
  at the first time is in the cache by the second. Only then it is reported as applied.
- What may have been missed is not passed over. At the start, after a gap or a message that cannot
  be read, when a purge failed or too many wait, everything is owed: a purge of everything, tried
  until it succeeds. What the cache refuses is only reported, else a wrong name would empty caches.
- A purge of everything stands for the purges that came before it began.
"""

import random
from collections import OrderedDict
from contextlib import suppress

import httpx
import trio

from fanout.adjunct.caches import Cache, CacheFailed
from fanout.adjunct.purge import PURGES, REPORTS, Outcome, Purge, Report, decode, everything
from fanout.client import Client, Message, open_client
from fanout.config import EdgeConfig, TlsFiles
from fanout.core.backoff import Backoff
from fanout.errors import ConfigError, RemoteProtocolError, RequestFailed
from fanout.runtime.net.certificates import context_for
from fanout.runtime.process.console import print_line
from fanout.runtime.process.logs import FloodLog, log
from fanout.runtime.process.signals import until_stopped
from fanout.wire.records import encode_record

REQUESTS_MAX = 8  # to a cache at a time: an API far away answers slowly
WAITING_MAX = 10_000  # purges, 45 MB; at this limit everything is cheaper than each of them
KNOWN_MAX = 10_000  # purges; one that is forgotten and comes again is applied again
REPORTS_MAX = 1000  # that wait for the sidecar; whoever misses one asks again
BACKOFF = Backoff(first_seconds=0.2, max_seconds=5.0)


async def run_edge(config: EdgeConfig) -> int:
    """Serve as the edge of a cache until told to stop; return the exit code.

    One line is printed when all that was stored before is purged: from then on a purge that is
    published reaches the cache. Neither a sidecar nor a cache that is away ends it.

    Raises:
        ConfigError: a file of certificates cannot be read.
        RequestFailed: the sidecar does not allow to subscribe.

    """
    context = context_for(config.sidecar, TlsFiles.of(config))
    # A cache beside us is not behind a proxy, and redirects would carry tokens away.
    http = httpx.AsyncClient(
        headers=list(config.request_headers),
        timeout=None,  # noqa: S113 - the cache is given its time as a whole
        trust_env=config.cache == "http",
        follow_redirects=False,
    )
    edge = Edge(config, Cache(config, http))
    sidecar = open_client(config.sidecar, token=config.token, ssl_context=context, told=edge.away)
    async with until_stopped(), http, sidecar as client:
        await edge.run(client)
    return 0


class Edge:
    """One cache's agent."""

    def __init__(self, config: EdgeConfig, cache: Cache) -> None:
        self._config = config
        self._cache = cache
        self._pauses = sorted({0.0, config.settle_seconds})  # before each time that it is asked
        self._turns = trio.CapacityLimiter(REQUESTS_MAX)
        self._known: OrderedDict[str, Report] = OrderedDict()  # last reports, by the purge's id
        self._waiting = 0  # purges
        self._received = 0  # purges so far
        self._emptied = -1  # how many of them came before the last purge of everything began
        self._owes = trio.Event()
        self._because = ""
        self._rng = random.Random()  # noqa: S311 - spreads retries
        self._reports, self._to_send = trio.open_memory_channel[Report](REPORTS_MAX)
        self._flood_log = FloodLog()
        self._trouble = ""

    async def run(self, client: Client) -> None:
        """Work until cancelled. Raises RequestFailed: the sidecar does not allow to subscribe."""
        await client.subscribe(PURGES + self._config.pool)
        self._owe("start")  # not before: what is published from here on is heard
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_emptying)
            nursery.start_soon(self._send_reports, client)
            async for event in client:
                if isinstance(event, Message):
                    self._take(event.data, nursery)
                else:
                    log.warning("gap_seen", node=event.node, reason=event.reason)
                    self._owe("gap")
                    self._trouble = ""

    def away(self, why: str) -> None:
        """Take why there is no connection to the sidecar."""
        if why != self._trouble:
            log.warning("sidecar_away", sidecar=self._config.sidecar, why=why)
        self._trouble = why

    def _take(self, data: bytes, nursery: trio.Nursery) -> None:
        try:
            purge = decode(Purge, data)
        except (RemoteProtocolError, ConfigError) as error:  # a later build's may mean anything
            self._flood_log.warning("purge_unreadable", code="unreadable", why=str(error))
            self._owe("unreadable")
            return
        kind, names = purge.kind.value, len(purge.names)
        log.info("purge_received", id=purge.id, origin=purge.origin, kind=kind, names=names)
        if purge.id in self._known:
            self._send(self._known[purge.id])
        elif self._waiting >= WAITING_MAX:
            self._owe("overflow")
            self._report(purge, Outcome.FAILED, "overflow", "too many wait; everything is purged")
        else:
            self._report(purge, Outcome.PENDING)
            self._waiting += 1
            self._received += 1
            nursery.start_soon(self._apply, purge, self._received)

    async def _apply(self, purge: Purge, number: int) -> None:
        """Apply a purge, which was the `number`th, and report."""
        try:
            for pause in self._pauses:
                await trio.sleep(pause)
                async with self._turns:
                    await self._ask(purge, number)
        except CacheFailed as failure:
            if not failure.refused:
                self._owe(failure.code)
            self._report(purge, Outcome.FAILED, failure.code, str(failure))
        else:
            self._report(purge, Outcome.APPLIED)
        self._waiting -= 1

    async def _ask(self, purge: Purge, number: int) -> None:
        """Ask the cache, again if need be, unless everything was purged meanwhile."""
        for attempt in range(self._config.attempts_max):
            if number <= self._emptied:
                return
            try:
                await self._cache.purge(purge)
            except CacheFailed as failure:
                self._flood_log.warning("cache_failed", code=failure.code, why=str(failure))
                if failure.refused or attempt + 1 == self._config.attempts_max:
                    raise
            else:
                log.debug("cache_purged", id=purge.id)
                return
            await trio.sleep(BACKOFF.delay_seconds(attempt, self._rng))

    def _owe(self, because: str) -> None:
        """Note that something may have been missed or left undone."""
        if not self._owes.is_set():
            self._because = because
            self._owes.set()

    async def _keep_emptying(self) -> None:
        """Purge everything whenever it is owed, beside the turns of what waits."""
        failures = 0
        while True:
            await self._owes.wait()
            because, began, self._owes = self._because, self._received, trio.Event()
            rest = self._config.everything_interval_seconds
            try:
                for pause in self._pauses:
                    await trio.sleep(pause)
                    await self._cache.purge(everything())
            except CacheFailed as failure:
                self._flood_log.warning("cache_failed", code=failure.code, why=str(failure))
                self._because = because
                self._owes.set()
                if not failure.refused:  # soon: meanwhile what may be stale is served
                    rest = BACKOFF.delay_seconds(failures, self._rng)
                failures += 1
            else:
                log.info("everything_purged", because=because)
                if self._emptied < 0:
                    print_line(f"ready edge={self._config.id} cache={self._config.cache}")
                failures, self._emptied = 0, began
            await trio.sleep(rest)

    def _report(self, purge: Purge, outcome: Outcome, code: str = "", message: str = "") -> None:
        edge = self._config.id
        report = Report(id=purge.id, edge=edge, outcome=outcome, code=code, message=message)
        if outcome is not Outcome.PENDING:
            done = {"edge": edge, "outcome": outcome.value, "code": code, "message": message}
            log.info("purge_done", id=purge.id, **done)
        self._known[purge.id] = report
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
        self._send(report)

    def _send(self, report: Report) -> None:
        with suppress(trio.WouldBlock):
            self._reports.send_nowait(report)

    async def _send_reports(self, client: Client) -> None:
        async for report in self._to_send:
            try:
                await client.publish(REPORTS + self._config.pool, encode_record(report))
            except RequestFailed as failure:
                self._flood_log.warning("report_failed", code=failure.code, why=str(failure))
