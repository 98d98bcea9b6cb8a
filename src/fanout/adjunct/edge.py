"""The edge: the agent beside a cache. It receives purges, applies them to the cache, and reports.

- A purge is applied once, by its id; a repeated purge is answered with its last report.
- Each purge is sent to the cache twice, the second time after `settle_seconds`: a response of the
  origin that was in flight at the first time is stored by then. Then it is reported as applied.
- Missed purges are made up for. At the start, after a gap or an undecodable message, when a purge
  failed or too many are queued, everything is purged, with retries until it succeeds. A purge that
  the cache refuses is only reported: otherwise an invalid name would empty caches.
- A purge of everything covers all purges received before it began.
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
from fanout.notice import Notice
from fanout.runtime.net.certificates import context_for
from fanout.runtime.process.console import print_line
from fanout.runtime.process.logs import FloodLog, log
from fanout.runtime.process.signals import until_stopped
from fanout.wire.records import encode_record

REQUESTS_MAX = 8  # concurrent requests: a remote API has a high latency
WAITING_MAX = 10_000  # queued purges, 45 MB; above, a purge of everything is cheaper
KNOWN_MAX = 10_000  # remembered purges; a repeat of an older one is applied again
REPORTS_MAX = 1000  # queued reports; a publisher that misses one repeats its purge
BACKOFF = Backoff(first_seconds=0.2, max_seconds=5.0)


async def run_edge(config: EdgeConfig) -> int:
    """Run the edge of a cache until a signal stops it; return the exit code.

    Prints the ready line when everything stored before is purged: from then on published purges
    reach the cache. An outage of the sidecar or of the cache does not stop it.

    Raises:
        ConfigError: a certificate file cannot be read.
        RequestFailed: the sidecar does not permit the subscription.

    """
    context = context_for(config.sidecar, TlsFiles.of(config))
    # A local cache needs no proxy. Redirects would leak the tokens.
    http = httpx.AsyncClient(
        headers=list(config.request_headers),
        timeout=None,  # noqa: S113 - `Cache` limits the whole request
        trust_env=config.cache == "http",
        follow_redirects=False,
    )
    edge = Edge(config, Cache(config, http))
    sidecar = open_client(config.sidecar, token=config.token, ssl_context=context, told=edge.away)
    async with until_stopped(), http, sidecar as client:
        await edge.run(client)
    return 0


class Edge:
    """The agent of one cache."""

    def __init__(self, config: EdgeConfig, cache: Cache) -> None:
        self._config = config
        self._cache = cache
        self._pauses = sorted({0.0, config.settle_seconds})  # before each of the two requests
        self._turns = trio.CapacityLimiter(REQUESTS_MAX)
        self._known: OrderedDict[str, Report] = OrderedDict()  # last report by purge id
        self._waiting = 0  # queued purges
        self._received = 0  # number of purges received
        self._emptied = -1  # `_received` when the last purge of everything began
        self._because = ""  # why a purge of everything is pending; empty while none is
        self._owed = Notice()
        self._rng = random.Random()  # noqa: S311 - spreads retries
        self._reports, self._to_send = trio.open_memory_channel[Report](REPORTS_MAX)
        self._flood_log = FloodLog()
        self._trouble = ""

    async def run(self, client: Client) -> None:
        """Run until cancelled. Raises RequestFailed: the sidecar does not permit the subscription."""
        await client.subscribe(PURGES + self._config.pool)
        self._owe("start")  # after the subscription: later purges are received
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
        """Log once for each reason that there is no connection to the sidecar."""
        if why != self._trouble:
            log.warning("sidecar_away", sidecar=self._config.sidecar, why=why)
        self._trouble = why

    def _take(self, data: bytes, nursery: trio.Nursery) -> None:
        try:
            purge = decode(Purge, data)
        except (RemoteProtocolError, ConfigError) as error:  # it may be a purge of a later version
            self._flood_log.warning("purge_unreadable", code="unreadable", why=str(error))
            self._owe("unreadable")
            return
        kind, names = purge.kind.value, len(purge.names)
        log.info("purge_received", id=purge.id, origin=purge.origin, kind=kind, names=names)
        if purge.id in self._known:
            self._send(self._known[purge.id])
        elif self._waiting >= WAITING_MAX:
            self._owe("overflow")
            why = "too many purges are queued; everything is purged"
            self._report(purge, Outcome.FAILED, "overflow", why)
        else:
            self._report(purge, Outcome.PENDING)
            self._waiting += 1
            self._received += 1
            nursery.start_soon(self._apply, purge, self._received)

    async def _apply(self, purge: Purge, number: int) -> None:
        """Apply the `number`th purge and report the outcome."""
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
        """Send a purge to the cache, with retries, unless everything was purged meanwhile."""
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
        """Request a purge of everything, unless one is pending."""
        if not self._because:
            self._because = because
            self._owed.set()

    async def _keep_emptying(self) -> None:
        """Purge everything whenever it is requested, outside the limit on concurrent requests."""
        failures = 0
        while True:
            while not self._because:
                await self._owed.wait(self._owed.count)
            because, began, self._because = self._because, self._received, ""
            rest = self._config.everything_interval_seconds
            try:
                for pause in self._pauses:
                    await trio.sleep(pause)
                    await self._cache.purge(everything())
            except CacheFailed as failure:
                self._flood_log.warning("cache_failed", code=failure.code, why=str(failure))
                self._because = because
                if not failure.refused:  # retry soon: the cache may serve stale pages
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
