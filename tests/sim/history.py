"""What clients saw, and what may never be seen.

The checkers are named by the invariants of the protocol: I3 drain, I5 no loss, I6 at most once,
I7 integrity, I8 order, I9 outcome.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Literal

import attrs

from fanout.values import CONTROL_CHANNEL

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


@attrs.define
class History:
    """Everything that happened in one run."""

    publishes: dict[bytes, Publish] = attrs.field(factory=dict)
    subscriptions: list[Subscription] = attrs.field(factory=list)
    events: list[tuple[float, str]] = attrs.field(factory=list)
    logs: dict[str, list[tuple[bytes, bytes]]] = attrs.field(factory=dict)  # of each node's Redis
    seen: list[str] = attrs.field(factory=list)  # violations seen while they happened
    transit_seconds: float = 0.0  # the longest way of a message from a node to a client

    def violations(self, *, planned: bool) -> list[str]:
        """Return what went wrong; some promises hold only for planned change."""
        found = [*self.at_most_once(), *self.integrity(), *self.outcome()]
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
        """I9: what a publisher is told is true, and nothing is executed twice."""
        executed = Counter(payload for log in self.logs.values() for _, payload in log)
        for payload, publish in self.publishes.items():
            count = executed[payload]
            if count > 1 or (publish.result == "executed") > count:
                yield f"I9 {payload!r} {publish.result} was executed {count} times"
            if publish.result == "not" and count:
                yield f"I9 {payload!r} was executed but reported as not"

    def no_loss(self) -> Iterator[str]:
        """I5: what was published and executed within a subscription's time is received.

        A sidecar ends a subscription when it is told to, not when the nodes have nothing more on
        their way: what a client would have got only after its UNSUBSCRIBE it need not get.
        """
        by_channel: dict[bytes, list[Publish]] = defaultdict(list)
        for publish in self.publishes.values():
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
                        f"I5 {each.subscriber} lost {publish.payload!r} published at "
                        f"{publish.began:.3f} on {self._carriers(publish.payload)}"
                    )

    def order(self) -> Iterator[str]:
        """I8: messages of one publisher on one channel arrive in the order they were sent."""
        for each in self.subscriptions:
            last: dict[str, Publish] = {}
            for payload in each.received:
                publish = self.publishes.get(payload)
                if publish is None:
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

    def _carriers(self, payload: bytes) -> list[str]:
        return [node for node, log in self.logs.items() if any(p == payload for _, p in log)]

    def lines(self, limit: int = 400) -> Iterable[str]:
        """Return the events as text, the last ones if there are too many."""
        return [f"{when:9.3f} {what}" for when, what in sorted(self.events)[-limit:]]
