"""A watch on further kinds of records: the latest records, and a notice of each change."""

import math
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import trio

from fanout.config import FleetConfig, Timings
from fanout.core.ledger import FURTHER, Ledger
from fanout.core.view import TOMBSTONE_SECONDS, View
from fanout.errors import RegistryUnavailable, leaves
from fanout.notice import Notice
from fanout.runtime.discovery.registry import Registry
from fanout.runtime.net.world import World, fleet_world
from fanout.values.records import Record, Snapshot
from fanout.wire.records import RecordKind

MEMBERS_MAX = 4096
"""The most records of one kind; further ones are ignored."""

R = TypeVar("R", bound=Record)


class Watch:
    """The newest record of every member of some kinds; `run` expires their leases.

    Attributes:
        changed: set at every change.
        settled: set once every instance was read or has failed.

    """

    def __init__(self, cluster: str, kinds: Sequence[RecordKind[Any]], *, instances: int) -> None:
        self._ledgers: dict[type, Ledger[str, Any, Record]] = {
            kind.type: Ledger(FURTHER, members_max=MEMBERS_MAX, tombstone_seconds=TOMBSTONE_SECONDS)
            for kind in kinds
        }
        self._view: View[Record] = View(cluster, self._ledgers, instances=instances)
        self._readable_since = math.inf
        self._pending = set(range(instances))
        self._moved = Notice()
        self.settled = trio.Event()
        self.changed = Notice()

    @property
    def frozen(self) -> bool:
        """Whether no discovery instance can be read now: the records may be stale."""
        return self._view.frozen

    @property
    def ever_read(self) -> bool:
        """Whether any instance was read: before that, an empty watch proves nothing."""
        return self._view.read_age(trio.current_time()) < math.inf

    @property
    def readable_seconds(self) -> float:
        """How long discovery has been readable without interruption; 0 while it is not."""
        return 0.0 if self.frozen else trio.current_time() - self._readable_since

    def members(self, kind: RecordKind[R]) -> Mapping[str, R]:
        """Return the records of a kind by their ids; a live view."""
        return self._ledgers[kind.type].records

    def absent(self, kind: RecordKind[R]) -> Iterable[R]:
        """Return the last records of members that left or expired recently."""
        return self._ledgers[kind.type].absent

    def on_snapshot(self, instance: int, snapshot: Snapshot) -> None:
        """Apply a read of one discovery instance."""
        if self.frozen:
            self._readable_since = trio.current_time()
        self._note(self._view.take(instance, snapshot.further, trio.current_time()))
        self._settle(instance)

    def on_unreachable(self, instance: int) -> None:
        """Record that one discovery instance cannot be read."""
        self._note(self._view.unreachable(instance, trio.current_time()))
        self._settle(instance)

    async def run(self) -> None:
        """Expire leases until cancelled."""
        while True:
            seen = self._moved.count
            with trio.move_on_at(self._view.next_deadline()):
                await self._moved.wait(seen)
            self._note(self._view.advance(trio.current_time()))

    def _settle(self, instance: int) -> None:
        """Record that an instance answered or failed; set `settled` once all have."""
        self._moved.set()
        self._pending.discard(instance)
        if not self._pending:
            self.settled.set()

    def _note(self, changes: tuple[Record, ...]) -> None:
        if changes:
            self.changed.set()


@asynccontextmanager
async def open_watch(
    config: FleetConfig,
    kinds: Sequence[RecordKind[Any]],
    *,
    world: World | None = None,
    may_be_down: bool = False,
) -> AsyncIterator[tuple[Registry, Watch]]:
    """Open a registry and a watch for a process that runs no sidecar.

    When the block begins, every discovery instance was read or has failed. An exception of the
    block is raised as it is, not in a group.

    Raises:
        RegistryUnavailable: no instance can be read at the start and `may_be_down` is not set.
            Later failures only freeze the watch.

    """
    world = world or fleet_world(config)
    watch = Watch(config.cluster, kinds, instances=len(config.discovery))
    registry = Registry(
        world.network,
        config.discovery,
        config.cluster,
        readers=(watch,),
        timings=Timings(connect_timeout_seconds=config.timeout_seconds),
        rng=world.rng,
        further=kinds,
    )
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(registry.run)
            nursery.start_soon(watch.run)
            await watch.settled.wait()
            if not (watch.ever_read or may_be_down):
                names = ", ".join(str(address.primary) for address in config.discovery)
                raise RegistryUnavailable(f"no discovery Redis can be read ({names}); is it up?")
            yield registry, watch
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        first, *more = leaves(group)
        if more:
            raise
        raise first from first.__cause__
