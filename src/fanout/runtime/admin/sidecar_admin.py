"""What a sidecar shows on its admin door: health, metrics, the live feed, and what adjuncts add."""

import ssl
from collections.abc import Mapping, Sequence
from itertools import chain

import attrs
import trio

from fanout.runtime.admin.live_feed import LiveFeed
from fanout.runtime.admin.live_look import Looks, Shown
from fanout.runtime.admin.live_page import live_page_route
from fanout.runtime.admin.sidecar_metrics import SIDECAR_METRICS, SidecarStatistics
from fanout.runtime.metrics.monitoring import labels_of, start_admin
from fanout.runtime.net.http import Readiness
from fanout.runtime.process.loop_watch import LoopWatch
from fanout.runtime.process.signals import Stop
from fanout.runtime.sidecar.adjuncts import Adjunct, Sidecar
from fanout.runtime.sidecar.hub import Hub
from fanout.values.names import Endpoint


@attrs.frozen(eq=False)
class SidecarAdmin:
    """The admin door of one sidecar.

    Attributes:
        doors: where the clients' doors are bound, by name.
        tls: what all doors speak TLS with, if they do.

    """

    _hub: Hub
    _beside: Sidecar
    _stop: Stop
    _doors: Mapping[str, Endpoint] = attrs.field(kw_only=True)
    _tls: ssl.SSLContext | None = attrs.field(kw_only=True)
    _loop: LoopWatch = attrs.field(factory=LoopWatch, init=False)

    def feed(self) -> LiveFeed:
        """Return the live feed, to be run as an adjunct: what is shown must not harm what is done."""
        shown = Shown(
            doors=self._doors,
            tls=self._tls is not None,
            unready=lambda: self._readiness().unready,
            loop_lag_seconds=lambda: self._loop.last_seconds,
            wall_milliseconds=self._beside.world.wall_milliseconds,
        )
        return LiveFeed(self._hub, Looks(self._hub, self._beside.registry, shown))

    async def start(self, nursery: trio.Nursery, adjuncts: Sequence[Adjunct]) -> str:
        """Serve, with the routes of the adjuncts; return the URL of the door.

        Raises:
            ConfigError: the address cannot be bound; in a group, as from any nursery.

        """
        config = self._beside.config
        return await start_admin(
            nursery,
            self._beside.world,
            config.admin,
            readiness=self._readiness,
            table=SIDECAR_METRICS,
            statistics=self._statistics,
            loop=self._loop,
            tls=self._tls,
            hosts=config.host,
            origins=config.origin,
            routes=(
                live_page_route(self._doors["ws"], tls=self._tls is not None),
                *chain.from_iterable(each.routes(self._beside) for each in adjuncts),
            ),
        )

    def _readiness(self) -> Readiness:
        unready = self._hub.unready()
        if self._stop.requested.is_set():
            unready = "it leaves"
        elif not unready and not self._beside.ready.is_set():
            unready = "its doors are not open yet"
        return Readiness(unready, self._hub.facts())

    def _statistics(self) -> SidecarStatistics:
        return SidecarStatistics(
            labels=labels_of("fanout-sidecar", self._beside.config),
            hub=self._hub.statistics(),
            discovery=self._beside.registry.statistics(),
            loop_lag=self._loop.statistics(),
            unready=self._readiness().unready,
        )
