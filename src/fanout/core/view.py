"""One process's view of records of any kind: the union of all discovery instances.

Rules
- `fanout.core.ledger` merges the records: the newest (incarnation, version) wins, states only
  move forward, tombstones stop old records.
- A lease runs on the clock of this process from the time a new record was first seen in any
  instance; clocks of two machines are never compared. Redis expires a record after one lease too,
  so an expired lease means: missing or stale in every readable instance.
- A goodbye in any instance removes a member at once. A silent member is removed by its lease.
- While no instance can be read, no member expires and no tombstone ends, for any length of time;
  when an instance is back, every member gets a new lease.
- If most members are silent at once, the fault is presumed in discovery and expiry is held.
  Healthy members renew several times in a lease, so a member silent for two thirds of its lease
  is late. If more than half are late when a lease runs out, no member expires until one whole
  lease after the first renewal (every live member has renewed by then) or, without any renewal,
  until three leases have passed: a majority may really be dead.
"""

from collections.abc import Iterable, Iterator, Mapping
from math import inf
from typing import Any, Generic, TypeVar

from fanout.core.ledger import Entry, Ledger
from fanout.values.records import Record

TOMBSTONE_SECONDS = 600.0
"""How long tombstones of absent members are kept; much longer than any lease."""

MASS_MIN = 3
"""The smallest number of members for which expiry is held if more than half are late."""
MASS_LEASES = 3.0
"""How many leases expiry is held if no member renews."""
LATE = 2 / 3
"""The fraction of its lease after which a silent member is late."""

E = TypeVar("E")


class View(Generic[E]):
    """The present records of several kinds.

    Args:
        cluster: records of other clusters are ignored.
        ledgers: one for each class of records; records of other classes are ignored.
        instances: the number of discovery instances.

    """

    def __init__(
        self, cluster: str, ledgers: Mapping[type, Ledger[Any, Any, Any]], *, instances: int
    ) -> None:
        self._cluster = cluster
        self._ledgers = ledgers
        self._instances = instances
        self._read_at: dict[int, float] = {}  # readable instances -> time of the last read
        self._last_read_at = -inf
        self._held_since: float | None = None
        self._refilled_since = inf

    @property
    def frozen(self) -> bool:
        """Whether no discovery instance can be read."""
        return not self._read_at

    def read_age(self, now: float) -> float:
        """Return the seconds since the last read of any instance; infinity before the first."""
        return now - self._last_read_at

    def take(self, instance: int, records: Iterable[Record], now: float) -> tuple[E, ...]:
        """Merge all records of one instance; return the changes.

        Raises:
            ValueError: the instance does not exist.

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
        """Record that one instance cannot be read; return the changes.

        Records missing in an unreadable instance are not removed for that reason.

        Raises:
            ValueError: the instance does not exist.

        """
        self._check(instance)
        self._read_at.pop(instance, None)
        return self.advance(now)

    def advance(self, now: float) -> tuple[E, ...]:
        """Remove the members whose leases ran out; return the changes."""
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
        """Return the time at which to call `advance`; infinity when idle."""
        if self.frozen:
            return inf
        due = min(map(self._end, self._entries()), default=inf)
        return due if self._held_since is None else max(due, self._hold_end())

    def _end(self, entry: Entry[Any]) -> float:
        """Return when to remove a silent member; infinity for never."""
        return entry.lease_end

    @property
    def _renewals(self) -> int:
        return sum(ledger.renewals for ledger in self._ledgers.values())

    def _check(self, instance: int) -> None:
        if not 0 <= instance < self._instances:
            raise ValueError(f"invalid instance {instance}: expected 0 to {self._instances - 1}")

    def _holds(self, now: float) -> bool:
        """Return whether expiry is held because most members are late: a fault of discovery."""
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
        """Yield the members that renew their records and so can be late."""
        return (entry for entry in self._entries() if entry.record.lease_seconds < inf)
