"""What this sidecar tells discovery about itself, at every heartbeat and at every change."""

import random

import attrs
import trio

from fanout.config import Timings
from fanout.core.backoff import jittered
from fanout.runtime.discovery.registry import Registry
from fanout.runtime.sidecar.hub import Hub
from fanout.values.names import SidecarId
from fanout.values.records import SidecarRecord

INTRODUCE_PAUSE_SECONDS = 0.05
"""How long a starting sidecar waits before it tries again to be known to discovery."""


class Presence:
    """The writer of one sidecar's record."""

    def __init__(self, hub: Hub, registry: Registry, incarnation: int, rng: random.Random) -> None:
        self._hub = hub
        self._registry = registry
        self._timings: Timings = hub.config.timings
        self._rng = rng
        self._record = SidecarRecord(
            cluster=hub.config.cluster,
            sidecar=SidecarId(hub.config.id),
            incarnation=incarnation,
            version=0,
            lease_seconds=self._timings.lease_seconds,
        )
        self._changed = trio.Event()
        hub.on_change = self._look

    async def announce(self) -> int:
        """Write the record as it is now; return how many instances took it."""
        if self._changed.is_set():  # else somebody may be waiting for this very event
            self._changed = trio.Event()
        before = self._record
        record = self._record = attrs.evolve(
            before, version=before.version + 1, **self._hub.own_words()
        )
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
                await self._changed.wait()
            await self.announce()

    async def say_goodbye(self) -> None:
        """Take the record back: nobody needs to wait for this sidecar any more."""
        record = attrs.evolve(self._record, version=self._record.version + 1, gone=True)
        await self._registry.write(record)

    def _look(self) -> None:
        """Notice whether what discovery should know has changed since the last write."""
        record = self._record
        told = {"covered": record.covered, "stopped": record.stopped, "deaf": record.deaf}
        if self._hub.own_words() != told:
            self._changed.set()
