"""The consumers of one door: who is there now, and what was counted of all that ever were."""

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Mapping
from types import MappingProxyType
from typing import Protocol

import attrs

from fanout.core.outbox import Outbox


@attrs.frozen
class Label:
    """How a consumer is called, for people. The texts are safe to show."""

    id: int  # of the connection, in the life of the sidecar and at its door
    address: str
    name: str = ""  # that the client gave itself


class Counted(Hashable, Protocol):
    """What is counted of one consumer."""

    outbox: Outbox
    received_bytes: int
    published: int
    delivered: int
    label: Callable[[], Label]

    @property
    def subscriptions(self) -> int:
        """Names that are delivered to it."""


@attrs.frozen
class ConsumersStatistics:
    """The consumers of one door."""

    door: str
    present: int
    connections: int  # since the start, those that were refused not included
    refused: int  # because the door was full
    cut: Mapping[str, int]  # code of the disconnect -> consumers
    faults: Mapping[str, int]  # code of what they did wrong -> times
    subscriptions: int
    received_bytes: int
    sent_bytes: int
    published: int  # messages
    outbox_bytes: int  # of all now
    outbox_largest_bytes: int  # of the slowest now


class Consumers:
    """Counts what the consumers of one door do; the sums outlive them."""

    def __init__(self, door: str) -> None:
        self._door = door
        self._present: dict[Counted, None] = {}
        self._connections = 0
        self._refused = 0
        self._received_bytes = 0  # of those that have left
        self._sent_bytes = 0
        self._cut: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self.published = 0
        """Messages they published since the start."""

    @property
    def present(self) -> Collection[Counted]:
        """Those who are there now; a live view."""
        return self._present.keys()

    def add(self, consumer: Counted) -> None:
        """Take that a consumer has connected."""
        self._connections += 1
        self._present[consumer] = None

    def discard(self, consumer: Counted) -> None:
        """Take that a consumer is gone; repeating it changes nothing."""
        if consumer in self._present:
            del self._present[consumer]
            self._received_bytes += consumer.received_bytes
            self._sent_bytes += consumer.outbox.handed

    def refuse(self) -> None:
        """Take that a connection was refused."""
        self._refused += 1

    def cut(self, code: str) -> None:
        """Take that a consumer is disconnected by us; codes come from the code, never from outside."""
        self._cut[code] += 1

    def fault(self, code: str) -> None:
        """Take that a consumer did something wrong; codes come from the code, never from outside."""
        self._faults[code] += 1

    def statistics(self) -> ConsumersStatistics:
        """Return who is there, and the sums."""
        waiting = [each.outbox.size for each in self._present]
        return ConsumersStatistics(
            door=self._door,
            present=len(self._present),
            connections=self._connections,
            refused=self._refused,
            cut=MappingProxyType(dict(self._cut)),
            faults=MappingProxyType(dict(self._faults)),
            subscriptions=sum(each.subscriptions for each in self._present),
            received_bytes=self._received_bytes
            + sum(each.received_bytes for each in self._present),
            sent_bytes=self._sent_bytes + sum(each.outbox.handed for each in self._present),
            published=self.published,
            outbox_bytes=sum(waiting),
            outbox_largest_bytes=max(waiting, default=0),
        )
