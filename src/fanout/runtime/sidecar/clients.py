"""The local clients of one door: the connected ones, and totals since the start."""

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Mapping
from types import MappingProxyType
from typing import Protocol

import attrs

from fanout.core.outbox import Outbox
from fanout.runtime.process.logs import FloodLog
from fanout.runtime.sidecar.member_log import MemberLog


@attrs.frozen
class Label:
    """How a client is shown to people. The texts are escaped."""

    id: int  # of the connection; unique at its door, while the sidecar runs
    address: str
    name: str = ""  # set by the client


class Counted(Hashable, Protocol):
    """The counters of one client."""

    outbox: Outbox
    received_bytes: int
    published: int
    delivered: int
    label: Callable[[], Label]

    @property
    def subscriptions(self) -> int:
        """How many names are delivered to it."""


@attrs.frozen
class ClientsStatistics:
    """The counters of one door."""

    door: str
    present: int
    connections: int  # since the start, without refused ones
    refused: int  # because `clients_max` was reached
    cut: Mapping[str, int]  # code of the disconnect -> clients
    faults: Mapping[str, int]  # code of the fault -> times
    subscriptions: int
    received_bytes: int
    sent_bytes: int
    published: int  # messages
    outbox_bytes: int  # of all clients, now
    outbox_largest_bytes: int  # of the slowest client, now


class Clients:
    """The registry and the counters of one door's clients; totals include past clients."""

    def __init__(self, door: str, member_log: MemberLog, flood_log: FloodLog) -> None:
        self._door = door
        self._member_log = member_log
        self._flood_log = flood_log
        self._present: dict[Counted, None] = {}
        self._connections = 0
        self._refused = 0
        self._received_bytes = 0  # of past clients
        self._sent_bytes = 0
        self._cut: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self.published = 0
        """Messages published by clients since the start."""

    @property
    def present(self) -> Collection[Counted]:
        """The clients connected now; a live view."""
        return self._present.keys()

    def add(self, client: Counted) -> None:
        """Record a new connection."""
        self._connections += 1
        self._present[client] = None

    def discard(self, client: Counted) -> None:
        """Record the end of a connection. Idempotent."""
        if client in self._present:
            del self._present[client]
            self._received_bytes += client.received_bytes
            self._sent_bytes += client.outbox.handed

    def refuse(self) -> None:
        """Record a refused connection."""
        self._refused += 1

    def cut(self, code: str, name: str, reason: str) -> None:
        """Log and count a disconnect by the sidecar; `code` never contains a client's text."""
        facts = {"code": code, "consumer": name, "reason": reason}
        if self._flood_log.warning("consumer_disconnected", **facts):
            self._member_log.keep("warning", "consumer_disconnected", facts)
        self._cut[code] += 1

    def complain(self, event: str, code: str, name: str, reason: str) -> None:
        """Log and count a client's fault; `event` and `code` never contain a client's text."""
        self._faults[code] += 1
        self._flood_log.warning(event, code=code, consumer=name, reason=reason)

    def statistics(self) -> ClientsStatistics:
        """Return the present values and the totals since the start."""
        waiting = [each.outbox.size for each in self._present]
        return ClientsStatistics(
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
