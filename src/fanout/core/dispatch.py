"""The table of local subscriptions, and the fan-out of a batch of messages to local clients.

The reader of a node adds messages one by one and ends the batch with `encode`. The messages of a
name are encoded once for each encoding that its clients use, joined, and appended as one blob to
the outbox of each client. Within a batch the messages of a name keep their order. There is no
order between names, since different nodes may carry their channels.

A `message` from a node goes to the subscribers of the channel, a `pmessage` to the subscribers of
its pattern. A client that subscribes to both gets both, as with Redis.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import attrs

from fanout.core.glob import compile_pattern
from fanout.core.outbox import Outbox
from fanout.values.names import SHARD_PREFIX, Kind, Space
from fanout.values.requests import Encoding

MATCHES_MAX = 10_000
"""Channels whose matching patterns are cached; clearing the cache only costs matching again."""


class Recipient(Protocol):
    """A local client, as the fan-out uses it."""

    @property
    def encoding(self) -> Encoding:
        """The encoding of its deliveries."""

    @property
    def outbox(self) -> Outbox:
        """The queue for its deliveries."""

    delivered: int
    """Messages queued for it while `Dispatch.counting` was on."""


C = TypeVar("C", bound=Recipient)


@attrs.frozen(slots=True)
class Encoders:
    """The functions with which one door encodes consecutive deliveries of one name."""

    messages: Callable[[bytes, Sequence[bytes]], bytes]  # (channel, payloads)
    pmessages: Callable[[bytes, Sequence[tuple[bytes, bytes]]], bytes]
    """(pattern, channels with payloads)"""
    smessages: Callable[[bytes, Sequence[bytes]], bytes]  # (shard channel, payloads)

    def of(self, space: Space) -> Callable[[bytes, Sequence[Any]], bytes]:
        """Return the encoder for deliveries of one space of names."""
        if space is Space.CHANNELS:
            return self.messages
        return self.pmessages if space is Space.PATTERNS else self.smessages


@attrs.frozen
class DispatchStatistics:
    """The number of local subscriptions and deliveries."""

    channels: int  # distinct, shard channels included
    patterns: int
    deliveries: Mapping[Encoding, int]  # since the start


@attrs.define(eq=False, slots=True)
class _Tally:
    """The deliveries to clients of one encoding."""

    deliveries: int = 0


@attrs.define(eq=False, slots=True)
class _Readers(Generic[C]):
    """The clients of one name that use one encoding."""

    encode: Callable[[bytes, Sequence[Any]], bytes]
    tally: _Tally
    clients: dict[C, None] = attrs.field(factory=dict)


class _Route(Generic[C]):
    """The clients of one name, by encoding, and the messages of the current batch."""

    __slots__ = ("name", "pending", "readers", "space")

    def __init__(self, space: Space, name: bytes) -> None:
        self.space = space
        self.name = name  # as clients write it
        self.readers: dict[Encoding, _Readers[C]] = {}
        self.pending: list[Any] = []  # arguments for the encoder of the space

    def __len__(self) -> int:
        return sum(len(each.clients) for each in self.readers.values())


class Dispatch(Generic[C]):
    """The dispatch table of one sidecar."""

    def __init__(self, encoders: Mapping[Encoding, Encoders]) -> None:
        self._encoders = encoders
        self._tallies = {encoding: _Tally() for encoding in encoders}
        self._channels: dict[bytes, _Route[C]] = {}
        self._patterns: dict[bytes, _Route[C]] = {}
        self._touched: list[_Route[C]] = []
        self._matchers: dict[bytes, Callable[[bytes], bool]] = {}
        self._matches: dict[bytes, tuple[bytes, ...]] = {}
        self.counting = False
        """Whether to count the deliveries of each client, at a small cost for each."""

    def add(self, kind: Kind, name: bytes, client: C) -> None:
        """Deliver messages of `name` to `client` from now on. Idempotent."""
        routes = self._channels if kind is Kind.CHANNEL else self._patterns
        route = routes.get(name)
        if route is None:
            route = routes[name] = _Route(*_client_name(kind, name))
            if kind is Kind.PATTERN:
                self._matchers[name] = compile_pattern(name)
                self._matches.clear()
        readers = route.readers.get(client.encoding)
        if readers is None:
            encode = self._encoders[client.encoding].of(route.space)
            readers = _Readers(encode, self._tallies[client.encoding])
            route.readers[client.encoding] = readers
        readers.clients[client] = None

    def discard(self, kind: Kind, name: bytes, client: C) -> None:
        """Stop delivering messages of `name` to `client`. Idempotent."""
        routes = self._channels if kind is Kind.CHANNEL else self._patterns
        route = routes.get(name)
        if route is None:
            return
        readers = route.readers.get(client.encoding)
        if readers is None:
            return
        readers.clients.pop(client, None)
        if not readers.clients:
            del route.readers[client.encoding]
        if not route.readers:
            del routes[name]
            if kind is Kind.PATTERN:
                del self._matchers[name]
                self._matches.clear()

    def take(self, pushes: Iterable[Sequence[Any]]) -> list[Sequence[Any]]:
        """Add the `message` pushes of a node to the batch; return the pushes not dispatched.

        Those are pushes of other types, and messages without a local subscriber.
        """
        others: list[Sequence[Any]] = []
        channels, touched = self._channels, self._touched
        for push in pushes:
            route = channels.get(push[1]) if push[0] == b"message" else None
            if route is None:
                others.append(push)
                continue
            if not route.pending:
                touched.append(route)
            route.pending.append(push[2])
        return others

    def take_run(self, channel: bytes, payloads: list[bytes]) -> bool:
        """Add many messages of one channel to the batch; return whether it has local subscribers."""
        route = self._channels.get(channel)
        if route is None:
            return False
        if not route.pending:
            self._touched.append(route)
        route.pending += payloads
        return True

    def pmessage(self, pattern: bytes, channel: bytes, payload: bytes) -> None:
        """Add a message that a node delivered for a pattern to the batch."""
        route = self._patterns.get(pattern)
        if route is not None:
            if not route.pending:
                self._touched.append(route)
            route.pending.append((channel, payload))

    def encode(self) -> tuple[list[C], list[C]]:
        """End the batch: fill the outboxes; return the clients to send to and those to disconnect.

        The first list may contain a client more than once. The second contains slow clients, whose
        outbox had no room for their deliveries.
        """
        fed: list[C] = []
        slow: list[C] = []
        for route in self._touched:
            pending, route.pending = route.pending, []
            for readers in route.readers.values():
                clients = readers.clients
                blob = readers.encode(route.name, pending)
                readers.tally.deliveries += len(pending) * len(clients)
                slow.extend([each for each in clients if not each.outbox.append(blob)])
                fed.extend(clients)
                if self.counting:
                    for each in clients:
                        each.delivered += len(pending)
        self._touched.clear()
        return fed, slow

    def matching(self, channel: bytes) -> tuple[bytes, ...]:
        """Return the subscribed patterns that match `channel`."""
        if not self._matchers:
            return ()
        found = self._matches.get(channel)
        if found is None:
            if len(self._matches) >= MATCHES_MAX:
                self._matches.clear()
            found = tuple(name for name, match in self._matchers.items() if match(channel))
            self._matches[channel] = found
        return found

    def statistics(self) -> DispatchStatistics:
        """Return the present number of names, and the deliveries since the start."""
        return DispatchStatistics(
            channels=len(self._channels),
            patterns=len(self._patterns),
            deliveries={encoding: tally.deliveries for encoding, tally in self._tallies.items()},
        )

    def receivers(self, channel: bytes) -> int:
        """Count as PUBLISH in Redis does: subscribers of the channel and of each matching pattern."""
        route = self._channels.get(channel)
        count = len(route) if route is not None else 0
        if not self._matchers or channel.startswith(SHARD_PREFIX):
            return count  # patterns do not match shard channels
        return count + sum(len(self._patterns[pattern]) for pattern in self.matching(channel))

    def names(self, space: Space) -> Iterator[bytes]:
        """Yield the names that clients subscribe to, as clients write them."""
        if space is Space.PATTERNS:
            yield from self._patterns
        else:
            for name in self._channels:
                if name.startswith(SHARD_PREFIX) is (space is Space.SHARDS):
                    yield name.removeprefix(SHARD_PREFIX)

    def subscribers(self, space: Space, name: bytes) -> int:
        """Count the clients that subscribe to a name, as clients write it."""
        if space is Space.PATTERNS:
            route = self._patterns.get(name)
        else:
            route = self._channels.get(SHARD_PREFIX + name if space is Space.SHARDS else name)
        return len(route) if route is not None else 0


def _client_name(kind: Kind, name: bytes) -> tuple[Space, bytes]:
    """Return the space and name for clients of a name on the nodes."""
    if kind is Kind.PATTERN:
        return Space.PATTERNS, name
    if name.startswith(SHARD_PREFIX):
        return Space.SHARDS, name.removeprefix(SHARD_PREFIX)
    return Space.CHANNELS, name
