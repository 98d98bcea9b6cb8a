"""One process's view of records of any kinds: the union of what all discovery instances say.

Rules
- How records are merged is in `fanout.core.ledger`: news by (incarnation, version), states only
  forward, tombstones.
- A lease runs on this process's clock from the moment a new record was first seen, in whichever
  instance; clocks of two machines are never compared. Redis drops a record after one lease too,
  so a lease that ran out here means: missing or stale in every instance that can be read.
- Goodbye removes at once, on any instance's word. Silence removes by the lease.
- While no instance can be read nobody expires and no tombstone ends, without a limit of time;
  when one is back everybody gets a fresh lease.
- When most members are silent at once it is discovery that is ill: expiry is held. Healthy
  members renew several times in a lease, so one silent for two thirds of its lease is late. If
  more than half are late when a lease runs out, nobody expires until one whole lease after the
  first renewal (whoever lives has renewed by then), or, when nobody renews, until three leases
  have passed: a majority may really be dead.
"""

from collections.abc import Iterable, Iterator, Mapping
from math import inf
from typing import Any, Generic, TypeVar

from fanout.core.ledger import Entry, Ledger
from fanout.values.records import Record

TOMBSTONE_SECONDS = 600.0
"""How long the absent are remembered; much longer than any lease."""

MASS_MIN = 3
"""From this many members on, the silence of more than half is doubted."""
MASS_LEASES = 3.0
"""So many leases a doubted expiry is held when nobody renews."""
LATE = 2 / 3
"""The part of its lease after which a silent member is late."""

E = TypeVar("E")


class View(Generic[E]):
    """What is known now.

    Args:
        cluster: records of other clusters are ignored.
        ledgers: of each class of records that counts; others are ignored.
        instances: number of discovery instances.

    """

    def __init__(
        self, cluster: str, ledgers: Mapping[type, Ledger[Any, Any, Any]], *, instances: int
    ) -> None:
        self._cluster = cluster
        self._ledgers = ledgers
        self._instances = instances
        self._read_at: dict[int, float] = {}  # instances that can be read -> when they last were
        self._last_read_at = -inf
        self._held_since: float | None = None
        self._refilled_since = inf

    @property
    def frozen(self) -> bool:
        """Whether no discovery instance can be read."""
        return not self._read_at

    def read_age(self, now: float) -> float:
        """Return the seconds since any instance was last read; infinity before the first."""
        return now - self._last_read_at

    def take(self, instance: int, records: Iterable[Record], now: float) -> tuple[E, ...]:
        """Take all that one instance knows.

        Raises:
            ValueError: there is no such instance.

        """
        self._check(instance)
        if self.frozen:
            for ledger in self._ledgers.values():
                ledger.thaw(now)
            self._held_since = None
        self._read_at[instance] = self._last_read_at = now
        renewals = self._renewals
        effects: list[E] = []
        for record in records:
            if record.cluster == self._cluster and type(record) in self._ledgers:
                effects.extend(self._ledgers[type(record)].observe(record, now))
        if self._renewals > renewals:
            self._refilled_since = min(self._refilled_since, now)
        return (*effects, *self.advance(now))

    def unreachable(self, instance: int, now: float) -> tuple[E, ...]:
        """Take that one instance cannot be read; its silence removes nobody.

        Raises:
            ValueError: there is no such instance.

        """
        self._check(instance)
        self._read_at.pop(instance, None)
        return self.advance(now)

    def advance(self, now: float) -> tuple[E, ...]:
        """Let leases run out."""
        if self.frozen:
            return ()
        due = []
        for ledger in self._ledgers.values():
            ledger.forget(now)
            due += [(ledger, key) for key, e in ledger.entries.items() if self._end(e) <= now]
        if due and self._holds(now):
            return ()
        self._held_since = None
        return tuple(ledger.expire(key, now) for ledger, key in due)

    def next_deadline(self) -> float:
        """Return when `advance` may have something to do; infinity when idle."""
        if self.frozen:
            return inf
        due = min(map(self._end, self._entries()), default=inf)
        return due if self._held_since is None else max(due, self._hold_end())

    def _end(self, entry: Entry[Any]) -> float:
        """Return when a silent member is removed; infinity for never."""
        return entry.lease_end

    @property
    def _renewals(self) -> int:
        return sum(ledger.renewals for ledger in self._ledgers.values())

    def _check(self, instance: int) -> None:
        if not 0 <= instance < self._instances:
            raise ValueError(f"there is no instance {instance}")

    def _holds(self, now: float) -> bool:
        """Whether expiry is held because so many are silent that discovery must be ill."""
        if self._held_since is None:
            if not self._mostly_late(now):
                return False
            self._held_since, self._refilled_since = now, inf
        return now < self._hold_end()

    def _hold_end(self) -> float:
        assert self._held_since is not None  # noqa: S101 - only asked while expiry is held
        lease: float = max(entry.record.lease_seconds for entry in self._renewed())
        return min(self._held_since + MASS_LEASES * lease, self._refilled_since + lease)

    def _mostly_late(self, now: float) -> bool:
        late = members = 0
        for entry in self._renewed():
            members += 1
            late += now - entry.renewed_at >= LATE * entry.record.lease_seconds
        return members >= MASS_MIN and 2 * late > members

    def _entries(self) -> Iterator[Entry[Any]]:
        for ledger in self._ledgers.values():
            yield from ledger.entries.values()

    def _renewed(self) -> Iterator[Entry[Any]]:
        """Yield the members that renew what they say, and so can be late."""
        return (entry for entry in self._entries() if entry.record.lease_seconds < inf)
