"""What clients saw, and what may never be seen.

The checkers are named by the invariants of the protocol: I3 drain, I5 no loss, I6 at most once,
I7 integrity, I8 order, I9 outcome, I12 static, I16 herd.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Literal

import attrs

from fanout.core.placement import place
from fanout.values.names import CONTROL_CHANNEL, NodeId
from tests.support.runtime.fleet import at_once

CONNECTS_MAX = 2
"""How often one connection may be tried within 100 ms, on the average over all of a node's.

In so small a fleet nearly all is the first, short waits of each: 25, 50 and 100 ms on average.
"""

Result = Literal["executed", "not", "unknown"]


@attrs.define(eq=False, slots=True)
class Publish:
    """One publish of one client."""

    publisher: str
    channel: bytes
    number: int
    began: float
    ended: float = float("inf")
    result: Result = "unknown"  # also when the client never learnt it

    @property
    def payload(self) -> bytes:
        """The message, unlike any other."""
        return b"%b/%b/%d" % (self.publisher.encode(), self.channel, self.number)


@attrs.define(eq=False, slots=True)
class Subscription:
    """One client's time on one channel: from its confirmation to when it began to leave."""

    subscriber: str
    channel: bytes
    asked: float
    confirmed: float = float("inf")
    leaving: float = float("inf")
    left: float = float("inf")
    received: list[bytes] = attrs.field(factory=list)
    late: list[bytes] = attrs.field(factory=list)  # received after the end was acknowledged


@attrs.frozen
class Away:
    """The time in which no discovery could be reached, and then was back with what it had left."""

    began: float
    ended: float
    nodes: tuple[NodeId, ...]  # the active ones at its begin

    def includes(self, when: float) -> bool:
        """Return whether something happened in it."""
        return self.began <= when < self.ended


@attrs.define
class History:
    """Everything that happened in one run."""

    publishes: dict[bytes, Publish] = attrs.field(factory=dict)
    subscriptions: list[Subscription] = attrs.field(factory=list)
    events: list[tuple[float, str]] = attrs.field(factory=list)
    logs: dict[str, list[tuple[bytes, bytes]]] = attrs.field(factory=dict)  # of each node's Redis
    carriers: defaultdict[bytes, list[str]] = attrs.field(factory=partial(defaultdict, list))
    """The nodes that each payload was published on."""
    seen: list[str] = attrs.field(factory=list)  # violations seen while they happened
    away: list[Away] = attrs.field(factory=list)
    planned_until: float = float("inf")
    """When faults began, in a run that was planned change until then."""
    connects: dict[str, list[float]] = attrs.field(factory=dict)  # to each node: when
    connections: int = 0  # that a node may have at most
    transit_seconds: float = 0.0  # the longest way of a message from a node to a client

    def violations(self, *, planned: bool) -> list[str]:
        """Return what went wrong; some promises hold only for planned change."""
        found = [*self.at_most_once(), *self.integrity(), *self.outcome()]
        found += [*self.static(), *self.herd()]
        if planned:
            found += [*self.no_loss(), *self.order(), *self.drain()]
        return found

    def at_most_once(self) -> Iterator[str]:
        """I6: no subscription sees a message twice."""
        for each in self.subscriptions:
            for payload, count in Counter(each.received).items():
                if count > 1:
                    yield f"I6 {each.subscriber} got {payload!r} {count} times"

    def integrity(self) -> Iterator[str]:
        """I7: only what was published is delivered, on its channel, and not after the end."""
        for each in self.subscriptions:
            for payload in each.received:
                publish = self.publishes.get(payload)
                if publish is None or publish.channel != each.channel:
                    yield f"I7 {each.subscriber} got {payload!r} on {each.channel!r}"
            for payload in each.late:
                yield f"I7 {each.subscriber} got {payload!r} after its unsubscribe"

    def outcome(self) -> Iterator[str]:
        """I9: the outcome that a publisher gets is true, and nothing is executed twice."""
        for payload, publish in self.publishes.items():
            count = len(self._carriers(payload))
            if count > 1 or (publish.result == "executed") > count:
                yield f"I9 {payload!r} {publish.result} was executed {count} times"
            if publish.result == "not" and count:
                yield f"I9 {payload!r} was executed but reported as not"

    def no_loss(self) -> Iterator[str]:
        """I5: what was published and executed within a subscription's time is received.

        A sidecar ends a subscription when it is told to, not when the nodes have nothing more on
        their way: what a client would have got only after its UNSUBSCRIBE it need not get.
        """
        planned = (each for each in self.publishes.values() if each.began < self.planned_until)
        yield from (f"I5 {loss}" for loss in self._losses(planned))

    def _losses(self, publishes: Iterable[Publish]) -> Iterator[str]:
        by_channel: dict[bytes, list[Publish]] = defaultdict(list)
        for publish in publishes:
            if publish.result == "executed":
                by_channel[publish.channel].append(publish)
        for each in self.subscriptions:
            received = set(each.received)
            for publish in by_channel[each.channel]:
                inside = (
                    each.confirmed <= publish.began
                    and publish.ended + self.transit_seconds <= each.leaving
                )
                if inside and publish.payload not in received:
                    yield (
                        f"{each.subscriber} lost {publish.payload!r} published at "
                        f"{publish.began:.3f} on {self._carriers(publish.payload)}"
                    )

    def static(self) -> Iterator[str]:
        """I12: without discovery each publish goes where it went before, and none is lost."""
        for away in self.away:
            publishes = [each for each in self.publishes.values() if away.includes(each.began)]
            for each in publishes:
                node = place(each.channel, away.nodes).publish
                if each.result != "executed":
                    yield f"I12 {each.payload!r} is {each.result} without discovery"
                elif self._carriers(each.payload) != [node]:
                    found = self._carriers(each.payload)
                    yield f"I12 {each.payload!r} went to {found} instead of {node}"
            for wish in self.subscriptions:
                if away.includes(wish.asked) and wish.confirmed == float("inf"):
                    yield f"I12 {wish.subscriber} was never subscribed to {wish.channel!r}"
            yield from (f"I12 {loss}" for loss in self._losses(publishes))

    def herd(self) -> Iterator[str]:
        """I16: whatever happens, a node is not flooded with connections."""
        for node, times in self.connects.items():
            if at_once(times) > CONNECTS_MAX * self.connections:
                yield f"I16 {node} was connected to {at_once(times)} times in 100 ms"

    def order(self) -> Iterator[str]:
        """I8: messages of one publisher on one channel arrive in the order they were sent."""
        for each in self.subscriptions:
            last: dict[str, Publish] = {}
            for payload in each.received:
                publish = self.publishes.get(payload)
                if publish is None or publish.began >= self.planned_until:
                    continue
                before = last.get(publish.publisher)
                if before is not None and before.number > publish.number:
                    yield (
                        f"I8 {each.subscriber} got {payload!r} published at {publish.began:.3f} on "
                        f"{self._carriers(payload)} after {before.payload!r} on "
                        f"{self._carriers(before.payload)}"
                    )
                last[publish.publisher] = publish

    def drain(self) -> Iterator[str]:
        """I3: on no node anything is published after its last message."""
        for node, log in self.logs.items():
            ended = False
            for channel, payload in log:
                if not channel:
                    ended = False
                elif channel == CONTROL_CHANNEL and b'"end"' in payload.lower():
                    ended = True
                elif ended and payload in self.publishes:
                    yield f"I3 {payload!r} was published on {node} after its END"

    def take_logs(self, logs: dict[str, list[tuple[bytes, bytes]]]) -> None:
        """Take what was published on each node, now that the run is over."""
        self.logs = logs
        for node, log in logs.items():
            for _, payload in log:
                self.carriers[payload].append(node)

    def _carriers(self, payload: bytes) -> list[str]:
        return self.carriers.get(payload, [])

    def lines(self, limit: int = 400) -> Iterable[str]:
        """Return the events as text, the last ones if there are too many."""
        return [f"{when:9.3f} {what}" for when, what in sorted(self.events)[-limit:]]
