"""The admin door of a sidecar: health, metrics, live feed, and routes of adjuncts."""

import ssl
from collections.abc import Callable, Sequence
from itertools import chain

import attrs
import trio

from fanout.runtime.admin.live_feed import LiveFeed
from fanout.runtime.admin.live_page import live_page_route
from fanout.runtime.admin.live_snapshot import Shown, Snapshots
from fanout.runtime.admin.sidecar_metrics import SIDECAR_METRICS, SidecarStatistics
from fanout.runtime.metrics.monitoring import labels_of, start_admin
from fanout.runtime.net.http import AdminDoor, Readiness
from fanout.runtime.process.loop_watch import LoopWatch
from fanout.runtime.sidecar.adjuncts import Adjunct, Sidecar


@attrs.frozen(eq=False, kw_only=True)
class SidecarAdmin:
    """The admin door of one sidecar.

    Attributes:
        shown: the sources of the snapshots.
        context: the parts of the sidecar that adjuncts may use.
        readiness: returns whether the sidecar is ready.
        loop: measures the event loop.

    """

    _shown: Shown
    _context: Sidecar
    _readiness: Callable[[], Readiness]
    _loop: LoopWatch

    def feed(self) -> LiveFeed:
        """Return the live feed, to run as an adjunct: its failure cannot harm the sidecar."""
        return LiveFeed(Snapshots(self._shown), self._shown.member_log, self._context.world.rng)

    async def start(
        self, nursery: trio.Nursery, adjuncts: Sequence[Adjunct], tls: ssl.SSLContext | None
    ) -> str:
        """Start serving, with the routes of the adjuncts; return the URL of the door.

        Raises:
            ConfigError: the address cannot be bound; in an exception group, as from any nursery.

        """
        config = self._context.config
        door = AdminDoor(
            endpoint=config.admin,
            readiness=self._readiness,
            loop=self._loop,
            tls=tls,
            hosts=config.host,
            origins=config.origin,
            routes=(
                live_page_route(self._shown.doors["ws"], tls=tls is not None),
                *chain.from_iterable(each.routes(self._context) for each in adjuncts),
            ),
        )
        return await start_admin(
            nursery, self._context.world, door, SIDECAR_METRICS, self._statistics
        )

    def _statistics(self) -> SidecarStatistics:
        return SidecarStatistics(
            labels=labels_of("fanout-sidecar", self._context.config),
            fleet=self._shown.fleet.statistics(),
            fanout=self._shown.fanout.statistics(),
            discovery=tuple(self._shown.discovery()),
            loop_lag=self._loop.statistics(),
            unready=self._shown.unready(),
        )
