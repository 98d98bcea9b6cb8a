"""Writes the record of this sidecar to discovery, at every heartbeat and at every change."""

import random
from collections.abc import Callable
from typing import Any

import attrs
import trio

from fanout.config import SidecarConfig
from fanout.core.backoff import jittered
from fanout.notice import Notice
from fanout.runtime.discovery.registry import Registry
from fanout.values.names import SidecarId
from fanout.values.records import SidecarRecord

INTRODUCE_PAUSE_SECONDS = 0.05
"""How long a starting sidecar waits before it tries again to be known to discovery."""


class Presence:
    """The writer of one sidecar's record.

    Args:
        config: of the sidecar.
        registry: writes the record.
        reports: returns what this sidecar reports of the nodes: fields of its record.
        reports_changed: set when these may have changed.
        incarnation: of this sidecar.
        rng: for the jitter of heartbeats.

    """

    def __init__(
        self,
        config: SidecarConfig,
        registry: Registry,
        *,
        reports: Callable[[], dict[str, Any]],
        reports_changed: Notice,
        incarnation: int,
        rng: random.Random,
    ) -> None:
        self._registry = registry
        self._timings = config.timings
        self._reports = reports
        self._reports_changed = reports_changed
        self._rng = rng
        self._record = SidecarRecord(
            cluster=config.cluster,
            sidecar=SidecarId(config.id),
            incarnation=incarnation,
            version=0,
            lease_seconds=self._timings.lease_seconds,
        )

    async def announce(self) -> int:
        """Write the record as it is now; return how many instances took it."""
        before = self._record
        record = self._record = attrs.evolve(before, version=before.version + 1, **self._reports())
        news = before.version == 0 or attrs.evolve(record, version=before.version) != before
        return await self._registry.write(record, news=news)

    async def introduce(self) -> None:
        """Have discovery know this sidecar, then read discovery: in this order.

        A node that joins meanwhile either finds this sidecar and waits for it, or is found here.
        An instance that cannot be reached is waited for as long as a connection may take.
        """
        with trio.move_on_after(self._timings.connect_timeout_seconds):
            await self._registry.wait_connected()
        while True:
            if await self.announce() and await self._registry.refresh():
                return
            await trio.sleep(INTRODUCE_PAUSE_SECONDS)

    async def run(self) -> None:
        """Write at every change and every heartbeat until cancelled."""
        while True:
            with trio.move_on_after(jittered(self._timings.heartbeat_interval_seconds, self._rng)):
                while self._is_current():
                    await self._reports_changed.wait(self._reports_changed.count)
            await self.announce()

    async def say_goodbye(self) -> None:
        """Take the record back: nobody needs to wait for this sidecar any more."""
        record = attrs.evolve(self._record, version=self._record.version + 1, gone=True)
        await self._registry.write(record)

    def _is_current(self) -> bool:
        """Return whether the record last written says what this sidecar reports now."""
        record = self._record
        written = {"covered": record.covered, "stopped": record.stopped, "deaf": record.deaf}
        return self._reports() == written
