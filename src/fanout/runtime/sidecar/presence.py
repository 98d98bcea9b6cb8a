"""The presence of a sidecar: writes its record to discovery at every heartbeat and change."""

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
"""How long a starting sidecar waits before it writes its first record again."""


class Presence:
    """The writer of one sidecar's record.

    Args:
        config: the configuration of the sidecar.
        registry: writes the record.
        reports: returns this sidecar's reports about the nodes: fields of its record.
        reports_changed: set when the reports may have changed.
        incarnation: the incarnation of the sidecar.
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
        """Write the present record; return how many instances accepted it."""
        before = self._record
        record = self._record = attrs.evolve(before, version=before.version + 1, **self._reports())
        news = before.version == 0 or attrs.evolve(record, version=before.version) != before
        return await self._registry.write(record, news=news)

    async def introduce(self) -> None:
        """Write the first record, then read discovery: in this order.

        A node that joins meanwhile either finds this sidecar and waits for it, or is found here.
        An unreachable instance is awaited for the connect timeout.
        """
        with trio.move_on_after(self._timings.connect_timeout_seconds):
            await self._registry.wait_connected()
        while True:
            if await self.announce() and await self._registry.refresh():
                return
            await trio.sleep(INTRODUCE_PAUSE_SECONDS)

    async def run(self) -> None:
        """Write the record at every change and every heartbeat until cancelled."""
        while True:
            with trio.move_on_after(jittered(self._timings.heartbeat_interval_seconds, self._rng)):
                while self._is_current():
                    await self._reports_changed.wait(self._reports_changed.count)
            await self.announce()

    async def say_goodbye(self) -> None:
        """Mark the record as gone, so that no agent waits for this sidecar."""
        record = attrs.evolve(self._record, version=self._record.version + 1, gone=True)
        await self._registry.write(record)

    def _is_current(self) -> bool:
        """Return whether the record last written holds the present reports."""
        record = self._record
        written = {"covered": record.covered, "stopped": record.stopped, "deaf": record.deaf}
        return self._reports() == written
