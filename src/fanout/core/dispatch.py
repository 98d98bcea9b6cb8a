"""From a name to the local consumers that want it, and the fan-out of a batch to them.

A node's reader hands over messages one by one and ends the batch with `encode`. Messages of one
name are encoded once for each door that has consumers, joined, and appended as one blob to the
outbox of each consumer. Within a batch the order of messages of one name is kept; between names
no order is promised, since their channels may be carried by different nodes.

The upstream copy decides: a `message` reaches the subscribers of the channel, a `pmessage` the
subscribers of its pattern. A consumer that has both gets both, as with Redis itself.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import attrs

from fanout.core.glob import compile_pattern
from fanout.core.outbox import Outbox
from fanout.values.names import SHARD_PREFIX, Kind, Space
from fanout.values.requests import Encoding

MATCHES_MAX = 10_000
"""Channels whose matching patterns are remembered; forgetting them costs only a new match."""


class Recipient(Protocol):
    """What the fan-out needs of a local client."""

    @property
    def encoding(self) -> Encoding:
        """How this client reads deliveries."""

    @property
    def outbox(self) -> Outbox:
        """Where its deliveries go."""

    delivered: int
    """Messages it was given while `Dispatch.counting`."""


C = TypeVar("C", bound=Recipient)


@attrs.frozen(slots=True)
class Encoders:
    """How one door writes deliveries of one name, in a row."""

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
    """What local clients subscribe to, and what they were given."""

    channels: int  # different ones, shard channels included
    patterns: int
    deliveries: Mapping[Encoding, int]  # since the start


@attrs.define(eq=False, slots=True)
class _Tally:
    """What the clients of one encoding were given."""

    deliveries: int = 0


@attrs.define(eq=False, slots=True)
class _Readers(Generic[C]):
    """The consumers of one name that read one encoding."""

    encode: Callable[[bytes, Sequence[Any]], bytes]
    tally: _Tally
    consumers: dict[C, None] = attrs.field(factory=dict)


class _Route(Generic[C]):
    """The consumers of one name, by encoding, and the batch that waits for them."""

    __slots__ = ("name", "pending", "readers", "space")

    def __init__(self, space: Space, name: bytes) -> None:
        self.space = space
        self.name = name  # as clients know it
        self.readers: dict[Encoding, _Readers[C]] = {}
        self.pending: list[Any] = []  # what the encoder of the space takes

    def __len__(self) -> int:
        return sum(len(each.consumers) for each in self.readers.values())


class Dispatch(Generic[C]):
    """The table of one sidecar."""

    def __init__(self, encoders: Mapping[Encoding, Encoders]) -> None:
        self._encoders = encoders
        self._tallies = {encoding: _Tally() for encoding in encoders}
        self._channels: dict[bytes, _Route[C]] = {}
        self._patterns: dict[bytes, _Route[C]] = {}
        self._touched: list[_Route[C]] = []
        self._matchers: dict[bytes, Callable[[bytes], bool]] = {}
        self._matches: dict[bytes, tuple[bytes, ...]] = {}
        self.counting = False
        """Whether deliveries are counted for each consumer, which costs a little for each."""

    def add(self, kind: Kind, name: bytes, consumer: C) -> None:
        """Deliver `name` to `consumer` from now on. Adding twice changes nothing."""
        routes = self._channels if kind is Kind.CHANNEL else self._patterns
        route = routes.get(name)
        if route is None:
            route = routes[name] = _Route(*_client_name(kind, name))
            if kind is Kind.PATTERN:
                self._matchers[name] = compile_pattern(name)
                self._matches.clear()
        readers = route.readers.get(consumer.encoding)
        if readers is None:
            encode = self._encoders[consumer.encoding].of(route.space)
            readers = _Readers(encode, self._tallies[consumer.encoding])
            route.readers[consumer.encoding] = readers
        readers.consumers[consumer] = None

    def discard(self, kind: Kind, name: bytes, consumer: C) -> None:
        """Deliver `name` to `consumer` no more. Discarding what is not there changes nothing."""
        routes = self._channels if kind is Kind.CHANNEL else self._patterns
        route = routes.get(name)
        if route is None:
            return
        readers = route.readers.get(consumer.encoding)
        if readers is None:
            return
        readers.consumers.pop(consumer, None)
        if not readers.consumers:
            del route.readers[consumer.encoding]
        if not route.readers:
            del routes[name]
            if kind is Kind.PATTERN:
                del self._matchers[name]
                self._matches.clear()

    def take(self, pushes: Iterable[Sequence[Any]]) -> list[Sequence[Any]]:
        """Take the messages among the pushes of a node; return what no consumer here wants."""
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
        """Take many messages of one channel; return whether any consumer here wants them."""
        route = self._channels.get(channel)
        if route is None:
            return False
        if not route.pending:
            self._touched.append(route)
        route.pending += payloads
        return True

    def pmessage(self, pattern: bytes, channel: bytes, payload: bytes) -> None:
        """Take a message that a node delivered for a pattern."""
        route = self._patterns.get(pattern)
        if route is not None:
            if not route.pending:
                self._touched.append(route)
            route.pending.append((channel, payload))

    def encode(self) -> tuple[list[C], list[C]]:
        """End the batch: fill the outboxes; return the consumers to send to, and to cut off.

        The first list may name a consumer more than once. The second holds slow consumers, whose
        outbox had no room for what they should have got.
        """
        fed: list[C] = []
        slow: list[C] = []
        for route in self._touched:
            pending, route.pending = route.pending, []
            for readers in route.readers.values():
                consumers = readers.consumers
                blob = readers.encode(route.name, pending)
                readers.tally.deliveries += len(pending) * len(consumers)
                slow.extend([each for each in consumers if not each.outbox.append(blob)])
                fed.extend(consumers)
                if self.counting:
                    for each in consumers:
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
        """Return how much there is now, and what was delivered."""
        return DispatchStatistics(
            channels=len(self._channels),
            patterns=len(self._patterns),
            deliveries={encoding: tally.deliveries for encoding, tally in self._tallies.items()},
        )

    def receivers(self, channel: bytes) -> int:
        """Count as Redis does: subscribers of the channel, and of each matching pattern."""
        route = self._channels.get(channel)
        count = len(route) if route is not None else 0
        if not self._matchers or channel.startswith(SHARD_PREFIX):
            return count  # no pattern hears a shard channel
        return count + sum(len(self._patterns[pattern]) for pattern in self.matching(channel))

    def names(self, space: Space) -> Iterator[bytes]:
        """Yield what clients subscribe to, as they name it."""
        if space is Space.PATTERNS:
            yield from self._patterns
        else:
            for name in self._channels:
                if name.startswith(SHARD_PREFIX) is (space is Space.SHARDS):
                    yield name.removeprefix(SHARD_PREFIX)

    def subscribers(self, space: Space, name: bytes) -> int:
        """Count the clients that subscribe to a name, as they name it."""
        if space is Space.PATTERNS:
            route = self._patterns.get(name)
        else:
            route = self._channels.get(SHARD_PREFIX + name if space is Space.SHARDS else name)
        return len(route) if route is not None else 0


def _client_name(kind: Kind, name: bytes) -> tuple[Space, bytes]:
    """Return how clients know what the nodes carry as `name`."""
    if kind is Kind.PATTERN:
        return Space.PATTERNS, name
    if name.startswith(SHARD_PREFIX):
        return Space.SHARDS, name.removeprefix(SHARD_PREFIX)
    return Space.CHANNELS, name
