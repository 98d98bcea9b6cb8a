"""Keeps every node subscribed to the names that local clients subscribe to.

Rules
- `desired` counts the references to each name. Only the first reference and the release of the
  last one cause commands; the latter after a linger, so that a client that reconnects causes none.
- Each connection to a node has its own `LinkSubscriptions`. A new connection is a new link, so
  replies on an old one are ignored. A link records for each name whether it was sent and
  acknowledged. At most one command for a name is unanswered on a link, so replies cannot cross.
- Commands are sent in batches, and the number of unanswered names is limited, because the node
  counts its confirmations against the output limit of the connection.
- A link is *covered* once every desired name is acknowledged on it. From then on a subscription
  is confirmed to a client only after the acknowledgement on this link.
- A ticket is one subscribe request of a client: it is confirmed when every required link has
  acknowledged all its names. A required node without a link delays tickets until the shell no
  longer requires it.
"""

from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum

import attrs

from fanout.core.glob import compile_pattern
from fanout.values.names import Kind, NodeId

BATCH_MAX = 512
"""Names in one SUBSCRIBE; the number that Centrifuge uses."""

UNANSWERED_MAX = 8 * BATCH_MAX
"""Names sent on a link and not yet acknowledged."""

COUNTED_MAX = 10_000
"""Channels whose number of matching patterns on a link is cached."""

Name = tuple[Kind, bytes]


class _Stage(Enum):
    """The state of a name on a link; an absent name is not subscribed."""

    SUBSCRIBING = "subscribe sent"
    SUBSCRIBED = "acknowledged"
    UNSUBSCRIBING = "unsubscribe sent"


@attrs.frozen(slots=True)
class Batch:
    """One command to send on a link."""

    link: "LinkSubscriptions"
    subscribe: bool
    kind: Kind
    names: tuple[bytes, ...]


@attrs.define(eq=False, slots=True)
class LinkSubscriptions:
    """The subscriptions of one connection to `node`. Only `Subscriptions` changes them."""

    node: NodeId
    covered: bool = False
    stages: dict[Name, _Stage] = attrs.field(factory=dict)
    queue: deque[Name] = attrs.field(factory=deque)
    uncovered: set[Name] = attrs.field(factory=set)
    unanswered: int = 0
    patterns: dict[bytes, Callable[[bytes], bool]] = attrs.field(factory=dict)  # acknowledged
    matches: dict[bytes, int] = attrs.field(factory=dict)  # channel -> matching patterns

    def counted(self, channel: bytes) -> int:
        """Return how often the node counts this connection as a receiver on `channel`.

        Lingering names count too: no client subscribes to them, but the node still delivers.
        """
        own = self.stages.get((Kind.CHANNEL, channel)) is _Stage.SUBSCRIBED
        if not self.patterns:
            return int(own)
        matches = self.matches.get(channel)
        if matches is None:
            if len(self.matches) >= COUNTED_MAX:
                self.matches.clear()
            matches = sum(match(channel) for match in self.patterns.values())
            self.matches[channel] = matches
        return own + matches

    def has(self, kind: Kind, name: bytes) -> bool:
        """Return whether the node has confirmed this subscription."""
        return self.stages.get((kind, name)) is _Stage.SUBSCRIBED


@attrs.define(eq=False, slots=True)
class Ticket:
    """A subscribe request that waits for confirmations of nodes."""

    names: tuple[Name, ...]
    on_confirmed: Callable[[], None]
    """Called by the shell when `Subscriptions.confirmed` returns the ticket."""
    missing: int = 0  # names not yet confirmed


class Subscriptions:
    """The subscriptions of one sidecar on all its nodes."""

    def __init__(self, *, linger_seconds: float = 1.0) -> None:
        self._linger_seconds = linger_seconds
        self._desired: dict[Name, int] = {}
        self._lingering: dict[Name, float] = {}  # in order of their deadlines
        self._links: dict[NodeId, LinkSubscriptions] = {}
        self._required: frozenset[NodeId] = frozenset()
        self._waiting: dict[Name, list[Ticket]] = {}
        self._done: list[Ticket] = []
        self._recheck = False  # check every ticket: the links or the required nodes changed
        self._dirty: dict[LinkSubscriptions, None] = {}

    def __len__(self) -> int:
        return len(self._desired)

    @property
    def unconfirmed(self) -> int:
        """The number of names that wait for the confirmation of a node."""
        return len(self._waiting)

    def acquire(
        self, kind: Kind, names: Iterable[bytes], on_confirmed: Callable[[], None]
    ) -> Ticket:
        """Add a reference to each of the distinct `names`; return the ticket for `confirmed`."""
        keys = tuple((kind, name) for name in names)
        ticket = Ticket(keys, on_confirmed)
        for key in keys:
            count = self._desired.get(key, 0)
            self._desired[key] = count + 1
            if count == 0:
                self._lingering.pop(key, None)
                for link in self._links.values():
                    self._enqueue(link, key)
                    if not link.covered and not link.has(*key):
                        link.uncovered.add(key)
            if not self._confirmed(key):
                self._waiting.setdefault(key, []).append(ticket)
                ticket.missing += 1
        if not ticket.missing:
            self._done.append(ticket)
        return ticket

    def release(self, kind: Kind, names: Iterable[bytes], now: float) -> None:
        """Release one reference to each of `names`.

        Raises:
            KeyError: a name without references; it and the names after it are unchanged.

        """
        for name in names:
            key = (kind, name)
            count = self._desired[key] - 1
            if count < 0:
                raise KeyError(key)
            self._desired[key] = count
            if count == 0:
                self._lingering[key] = now + self._linger_seconds

    def abandon(self, ticket: Ticket) -> None:
        """Drop the ticket of a client that left; its references are released separately."""
        for key in ticket.names:
            tickets = self._waiting.get(key)
            if tickets and ticket in tickets:
                tickets.remove(ticket)
                if not tickets:
                    del self._waiting[key]

    def open(self, node: NodeId) -> LinkSubscriptions:
        """Return the subscriptions of a new connection to `node`; it replaces an older one."""
        link = LinkSubscriptions(node)
        self._links[node] = link
        for key in self._desired:
            self._enqueue(link, key)
        link.uncovered = set(self._desired)
        link.covered = not link.uncovered
        self._recheck = True
        return link

    def close(self, link: LinkSubscriptions) -> None:
        """Record that a connection ended; no effect if it is not the current one."""
        if self._links.get(link.node) is link:
            del self._links[link.node]
            self._recheck = True
        self._dirty.pop(link, None)

    def require(self, nodes: frozenset[NodeId]) -> None:
        """Set the nodes that must confirm subscriptions in addition to the covered ones."""
        self._recheck = self._recheck or nodes != self._required
        self._required = nodes

    def acknowledge(
        self, link: LinkSubscriptions, *, subscribed: bool, kind: Kind, name: bytes
    ) -> None:
        """Record a node's confirmation; ignored if it does not match a command on the current link."""
        key = (kind, name)
        sent = _Stage.SUBSCRIBING if subscribed else _Stage.UNSUBSCRIBING
        if self._links.get(link.node) is not link or link.stages.get(key) is not sent:
            return
        link.unanswered -= 1
        if subscribed:
            link.stages[key] = _Stage.SUBSCRIBED
            if kind is Kind.PATTERN:
                link.patterns[name] = compile_pattern(name)
                link.matches.clear()
            if not link.covered:
                link.uncovered.discard(key)
                link.covered = not link.uncovered
            self._confirm(key)
        else:
            del link.stages[key]
        # `desired` may have changed while the command was in flight.
        if subscribed is not (key in self._desired):
            self._enqueue(link, key)
        elif link.queue:
            self._dirty[link] = None

    def expire(self, now: float) -> None:
        """Unsubscribe from names that stayed without references for the linger time."""
        while self._lingering:
            key, deadline = next(iter(self._lingering.items()))
            if deadline > now:
                return
            del self._lingering[key]
            del self._desired[key]
            for link in self._links.values():
                link.uncovered.discard(key)
                link.covered = link.covered or not link.uncovered
                self._enqueue(link, key)

    def next_deadline(self) -> float:
        """Return the time at which to call `expire`; infinity when idle."""
        return next(iter(self._lingering.values()), float("inf"))

    def batches(self) -> list[Batch]:
        """Return the commands to send now, and record them as sent."""
        found: list[Batch] = []
        dirty, self._dirty = self._dirty, {}
        for link in dirty:
            self._fill(link, found)
        return found

    def confirmed(self) -> list[Ticket]:
        """Return the newly confirmed tickets, each once."""
        if self._recheck:
            self._recheck = False
            for key in list(self._waiting):
                self._confirm(key)
        done, self._done = self._done, []
        return done

    def _confirm(self, key: Name) -> None:
        if key not in self._waiting or not self._confirmed(key):
            return
        for ticket in self._waiting.pop(key):
            ticket.missing -= 1
            if ticket.missing == 0:
                self._done.append(ticket)

    def _enqueue(self, link: LinkSubscriptions, key: Name) -> None:
        link.queue.append(key)
        self._dirty[link] = None

    def _confirmed(self, key: Name) -> bool:
        links = self._links
        for node in self._required:
            link = links.get(node)
            if link is None or not link.has(*key):
                return False
        return all(link.has(*key) for link in links.values() if link.covered)

    def _fill(self, link: LinkSubscriptions, found: list[Batch]) -> None:
        """Add batches from the queue of a link to `found`, up to `UNANSWERED_MAX`."""
        stages, queue = link.stages, link.queue
        groups: dict[tuple[bool, Kind], list[bytes]] = {}
        while queue and link.unanswered < UNANSWERED_MAX:
            key = queue.popleft()
            stage = stages.get(key)
            subscribe = key in self._desired
            if stage is None and subscribe:
                stages[key] = _Stage.SUBSCRIBING
            elif stage is _Stage.SUBSCRIBED and not subscribe:
                stages[key] = _Stage.UNSUBSCRIBING
                if key[0] is Kind.PATTERN:
                    del link.patterns[key[1]]
                    link.matches.clear()
            else:
                continue  # already as desired, or decided when the reply arrives
            link.unanswered += 1
            names = groups.setdefault((subscribe, key[0]), [])
            names.append(key[1])
            if len(names) == BATCH_MAX:
                found.append(Batch(link, subscribe, key[0], tuple(names)))
                names.clear()
        for (subscribe, kind), names in groups.items():
            if names:
                found.append(Batch(link, subscribe, kind, tuple(names)))
