"""What is known of further kinds of records, for those who want to be woken by a change of it."""

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
"""Records of one kind; more are ignored."""

R = TypeVar("R", bound=Record)


class Watch:
    """The newest record of every member of some kinds; `run` has their leases run out.

    Attributes:
        changed: set at every change.

    """

    def __init__(self, cluster: str, kinds: Sequence[RecordKind[Any]], *, instances: int) -> None:
        self._ledgers: dict[type, Ledger[str, Any, Record]] = {
            kind.type: Ledger(FURTHER, members_max=MEMBERS_MAX, tombstone_seconds=TOMBSTONE_SECONDS)
            for kind in kinds
        }
        self._view: View[Record] = View(cluster, self._ledgers, instances=instances)
        self._readable_since = math.inf
        self._unheard = set(range(instances))
        self._moved = Notice()
        self.settled = trio.Event()
        self.changed = Notice()

    @property
    def frozen(self) -> bool:
        """Whether no discovery instance can be read now: what is known may be old."""
        return self._view.frozen

    @property
    def ever_read(self) -> bool:
        """Whether any instance has been read yet: until then an empty view means nothing."""
        return self._view.read_age(trio.current_time()) < math.inf

    @property
    def readable_seconds(self) -> float:
        """How long an instance could be read without a pause; 0 while none can."""
        return 0.0 if self.frozen else trio.current_time() - self._readable_since

    def members(self, kind: RecordKind[R]) -> Mapping[str, R]:
        """Return the records of a kind by their ids; a live view."""
        return self._ledgers[kind.type].records

    def absent(self, kind: RecordKind[R]) -> Iterable[R]:
        """Return the last records of those who left or expired of late."""
        return self._ledgers[kind.type].absent

    def on_snapshot(self, instance: int, snapshot: Snapshot) -> None:
        """Take what one discovery instance knows."""
        if self.frozen:
            self._readable_since = trio.current_time()
        self._note(self._view.take(instance, snapshot.further, trio.current_time()))
        self._heard(instance)

    def on_unreachable(self, instance: int) -> None:
        """Take that one discovery instance cannot be read."""
        self._note(self._view.unreachable(instance, trio.current_time()))
        self._heard(instance)

    async def run(self) -> None:
        """Let leases run out until cancelled."""
        while True:
            seen = self._moved.count
            with trio.move_on_at(self._view.next_deadline()):
                await self._moved.wait(seen)
            self._note(self._view.advance(trio.current_time()))

    def _heard(self, instance: int) -> None:
        """Note that an instance has answered or failed; `settled` once all have."""
        self._moved.set()
        self._unheard.discard(instance)
        if not self._unheard:
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
    """Read and write further kinds of records where no sidecar runs, while the block does.

    Every discovery instance has been read when the block begins, or has failed. What the block
    raises comes as it is, not in a group.

    Raises:
        RegistryUnavailable: none can be read at first, and it is not said that it `may_be_down`;
            later that only freezes what is known.

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
