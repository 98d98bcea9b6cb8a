"""Publishes each message to one node and learns what became of it.

Three outcomes: executed; certainly not executed; unknown, when the connection broke with the
publish in flight. What was certainly not executed is tried on the next node until the deadline.
What is unknown is never tried again: a second copy would be a duplicate.

Long because what is fenced, held and tried again must keep one order.
"""

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import accumulate
from types import MappingProxyType
from typing import Protocol

import attrs
import trio

from fanout.core.barriers import OrderBarriers
from fanout.core.choices import Choices
from fanout.core.histogram import SHORT_SECONDS, Histogram, HistogramStatistics
from fanout.core.in_flight import Answer
from fanout.core.outcomes import Outcomes
from fanout.errors import LinkLost
from fanout.runtime.redis.link import Link
from fanout.runtime.sidecar.node_link import NodeLink
from fanout.values.control import OrderBarrier
from fanout.values.names import CONTROL_CHANNEL, NodeId, SidecarId
from fanout.values.records import FenceMode
from fanout.values.requests import NotPublished, Outcome, OutcomeUnknown, PublishRun
from fanout.wire.records import encode_control
from fanout.wire.redis.client import ReplyError, error_text, pack

PARKED_BYTES_MAX = 16 * 1024 * 1024
"""Publishes held back while no node can take them; past it they are refused at once."""


BARRIER_TIMEOUT_SECONDS = 1.0
"""How long messages of a channel that moved wait for the slowest sidecar; below any publish's time."""

BARRIER_RECENT_SECONDS = 10.0
"""A node not published to for so long needs no barrier: what it carried has arrived."""

REFUSED_SECONDS = 10.0
"""How long a node that refused a publish counts as fenced, unless it executes one before."""


_NONE: Mapping[NodeId, str] = MappingProxyType({})


class Receivers(Protocol):
    """What the publisher asks the dispatch table."""

    def receivers(self, channel: bytes) -> int:
        """Count the local receivers of a channel."""


@attrs.frozen
class PublisherStatistics:
    """What became of publishes since the start, and what waits now."""

    executed: HistogramStatistics  # from the request to the node's answer
    failed: Mapping[str, int]  # code, or `unknown` -> messages
    retries: int  # a node refused a message, and another one was asked
    waiting: int  # messages that no node can take now
    waiting_bytes: int
    barrier_timeouts: int


@attrs.define(eq=False, slots=True)
class _Attempt:
    """One message that goes its own way: it is held, or has to be tried on another node."""

    outcomes: Outcomes
    index: int
    deadline: float
    tried: Mapping[NodeId, str] = _NONE  # nodes that refused it, and why

    @property
    def channel(self) -> bytes:
        """The channel of the message."""
        return self.outcomes.run.channels[self.index]

    @property
    def command(self) -> bytes:
        """The command that publishes it."""
        return self.outcomes.run.command(self.index)

    def done(self, outcome: Outcome) -> None:
        """Record the outcome."""
        self.outcomes.settle(self.index, outcome)


class Publisher:
    """Chooses the node of each message among those that may be published to."""

    def __init__(
        self,
        sidecar: SidecarId,
        receivers: Receivers,
        *,
        timeout_seconds: float,
        on_deadline: Callable[[], None],
    ) -> None:
        self._sidecar = sidecar
        self._receivers = receivers
        self._timeout_seconds = timeout_seconds
        self._on_deadline = on_deadline  # called when `next_deadline` may be sooner than it was
        self._choices: Choices[NodeLink] = Choices()
        self._parked: deque[_Attempt] = deque()
        self._parked_bytes = 0
        self._dirty: dict[Link, None] = {}
        self._barriers: OrderBarriers[_Attempt] = OrderBarriers(
            timeout_seconds=BARRIER_TIMEOUT_SECONDS
        )
        self._used: dict[NodeId, float] = {}  # deadline of the last publish on each node
        self._deadline: float | None = None  # of what is published before the next flush
        self._executed = Histogram(SHORT_SECONDS)
        self._failures: Counter[str] = Counter()
        self._retries = 0
        self._refused_at: dict[NodeId, float] = {}  # nodes whose fence is shut

    def use(self, nodes: Mapping[NodeId, NodeLink]) -> None:
        """Publish to these nodes from now on; each has a data link."""
        before = self._choices.nodes
        self._choices.use(nodes)
        if before and before.keys() != nodes.keys():
            self._raise_barriers(before)
        if nodes:
            parked, self._parked = self._parked, deque()
            self._parked_bytes = 0
            for attempt in parked:
                self._submit(attempt)

    def publish(self, run: PublishRun, done: Callable[[Sequence[Outcome]], None]) -> None:
        """Publish; `done` is called once with the outcome of each message, now or later."""
        outcomes = Outcomes(run, done)
        if self._deadline is None:
            self._deadline = trio.current_time() + self._timeout_seconds
        parts = self._parts(run.channels)
        if parts is None:
            for index in range(len(run.channels)):
                self._submit(_Attempt(outcomes, index, self._deadline))
            return
        for node, indexes in parts.items():
            self._used[node.record.node] = self._deadline
            link = node.data
            assert link is not None  # noqa: S101 - `_parts` has just seen to it
            self._dirty[link] = None
            node.published += len(indexes)
            on_answers = partial(self._answered, outcomes, indexes, node, self._deadline)
            if len(parts) == 1:
                link.submit_all(run.data, run.ends, on_answers)
            else:
                commands = [run.command(index) for index in indexes]
                ends = list(accumulate(map(len, commands)))
                link.submit_all(b"".join(commands), ends, on_answers)

    def _parts(self, channels: Sequence[bytes]) -> dict[NodeLink, list[int]] | None:
        """Return which messages each node gets; None when one of them has to wait."""
        if self._parked or self._barriers:
            return None
        parts: dict[NodeLink, list[int]] = {}
        last, part = None, []
        for index, channel in enumerate(channels):
            if channel is not last:
                node = self._choices.best(channel)
                if node is None or node.data is None or node.data.lost:
                    return None
                part, last = parts.setdefault(node, []), channel
            part.append(index)
        return parts

    def _answered(
        self,
        outcomes: Outcomes,
        indexes: Sequence[int],
        node: NodeLink,
        deadline: float,
        answers: list[Answer],
    ) -> None:
        """Settle what a node was given of a run; what it did not execute goes its own way."""
        channels, counts = outcomes.run.channels, list[int]()
        last, own, local = None, 0, 0
        for index, answer in zip(indexes, answers, strict=True):
            channel = channels[index]
            if channel is not last:  # the same for all neighbours
                last, (own, local) = channel, self._receivers_of(channel, node)
            if type(answer) is not int:
                break
            counts.append(answer - own + local if answer > own else local)
        executed = len(counts)
        if executed < len(answers):
            executed = sum(type(each) is int for each in answers)
        if executed:
            self._note_executed(node, deadline, executed)
        if len(counts) == len(channels):
            outcomes.settle_all(counts)
            return
        for index, answer in zip(indexes, answers, strict=True):
            self._attempted(_Attempt(outcomes, index, deadline), node, answer)

    def _note_executed(self, node: NodeLink, deadline: float, executed: int) -> None:
        """Count messages that a node has just executed."""
        link = node.data
        now = link.received_at if link is not None else trio.current_time()
        self._executed.add(now - deadline + self._timeout_seconds, executed)
        if self._refused_at:
            self._refused_at.pop(node.record.node, None)

    def flush(self) -> None:
        """Send what was submitted since the last flush."""
        self._deadline = None
        dirty, self._dirty = self._dirty, {}
        for link in dirty:
            link.flush()

    def expire(self, now: float) -> None:
        """Refuse what has waited for a node past its deadline."""
        while self._parked and self._parked[0].deadline <= now:
            attempt = self._parked.popleft()
            self._parked_bytes -= len(attempt.command)
            self._fail(attempt, self._failure(attempt))
        self._resubmit(self._barriers.expire(now))

    def next_deadline(self) -> float:
        """Return when `expire` has something to do; infinity when idle."""
        parked = self._parked[0].deadline if self._parked else float("inf")
        return min(parked, self._barriers.next_deadline())

    def refusing(self, now: float) -> frozenset[NodeId]:
        """Return the nodes that are fenced off, though they may be active: they refuse publishes."""
        recent = now - REFUSED_SECONDS
        return frozenset(node for node, at in self._refused_at.items() if at > recent)

    def statistics(self) -> PublisherStatistics:
        """Return what became of publishes, and what waits."""
        return PublisherStatistics(
            executed=self._executed.statistics(),
            failed=MappingProxyType(dict(self._failures)),
            retries=self._retries,
            waiting=len(self._parked),
            waiting_bytes=self._parked_bytes,
            barrier_timeouts=self._barriers.timeouts,
        )

    def has_barrier(self, node: NodeId) -> bool:
        """Return whether sidecars have yet to receive what was published on a node."""
        return self._barriers.pending(node)

    def barrier_answered(self, number: int) -> None:
        """Take that one sidecar has received a barrier."""
        self._resubmit(self._barriers.answered(number))

    def _raise_barriers(self, before: Mapping[NodeId, NodeLink]) -> None:
        """Publish a barrier on every node of `before` that was used lately and still runs."""
        now = trio.current_time()
        recent = now + self._timeout_seconds - BARRIER_RECENT_SECONDS
        links = {
            name: node.data
            for name, node in before.items()
            if node.data is not None
            and not node.data.lost
            and self._used.get(name, float("-inf")) >= recent
        }
        numbers = self._barriers.begin(frozenset(before), frozenset(links), now)
        self._used = {
            name: used for name, used in self._used.items() if name in self._choices.nodes
        }
        for name, number in numbers.items():
            message = encode_control(OrderBarrier(self._sidecar, number))
            links[name].submit(
                pack(b"PUBLISH", CONTROL_CHANNEL, message), partial(self._barrier_sent, number)
            )
            self._dirty[links[name]] = None

    def _barrier_sent(self, number: int, answer: Answer) -> None:
        barriers = self._barriers
        known = type(answer) is int
        self._resubmit(barriers.received(number, answer) if known else barriers.lost(number))

    def _resubmit(self, attempts: list[_Attempt]) -> None:
        for attempt in attempts:
            self._submit(attempt)

    def _submit(self, attempt: _Attempt) -> None:
        if attempt.tried:
            node = self._choices.next(attempt.channel, attempt.tried.keys())
        else:
            node = self._choices.best(attempt.channel)
        link = node.data if node is not None else None
        if node is None or link is None or link.lost or self._parked:
            self._park(attempt)
            return
        name = node.record.node
        if self._barriers and not attempt.tried:
            barrier = self._barriers.blocking(attempt.channel, name)
            if barrier is not None:
                self._barriers.hold(barrier, attempt.channel, attempt)
                return
        self._used[name] = attempt.deadline
        node.published += 1
        link.submit(attempt.command, partial(self._attempt_answered, attempt, node))
        self._dirty[link] = None

    def _park(self, attempt: _Attempt) -> None:
        """Hold a publish until a node can take it, in order, for as long as its deadline."""
        size = len(attempt.command)
        if self._parked_bytes + size > PARKED_BYTES_MAX:
            why = "no node can be published to, and too many wait"
            self._fail(attempt, NotPublished("no_node", why))
            return
        if not self._parked:
            self._on_deadline()
        self._parked.append(attempt)
        self._parked_bytes += size

    def _attempt_answered(self, attempt: _Attempt, node: NodeLink, answer: Answer) -> None:
        if type(answer) is int:
            self._note_executed(node, attempt.deadline, 1)
        self._attempted(attempt, node, answer)

    def _attempted(self, attempt: _Attempt, node: NodeLink, answer: Answer) -> None:
        if type(answer) is int:
            own, local = self._receivers_of(attempt.channel, node)
            attempt.done(max(0, answer - own) + local)
        else:
            self._failed(attempt, node, answer)

    def _failed(self, attempt: _Attempt, node: NodeLink, answer: Answer) -> None:
        if isinstance(answer, LinkLost) and answer.written:
            why = f"the node was lost with the message: {answer.reason}"
            self._fail(attempt, OutcomeUnknown(why))
        elif isinstance(answer, LinkLost):
            self._submit(attempt)  # parked until the choice of nodes follows the loss
        elif isinstance(answer, ReplyError):
            self._refused(attempt, node, error_text(answer))
        else:
            self._fail(attempt, OutcomeUnknown(f"the node answered {answer!r:.64}"))

    def _fail(self, attempt: _Attempt, outcome: NotPublished | OutcomeUnknown) -> None:
        self._failures[outcome.code if isinstance(outcome, NotPublished) else "unknown"] += 1
        attempt.done(outcome)

    def _refused(self, attempt: _Attempt, node: NodeLink, why: str) -> None:
        """Try elsewhere what a node refused; fail when no node is left or the time is over."""
        now, name = trio.current_time(), node.record.node
        attempt.tried = {**attempt.tried, name: why}
        # In cooperative mode it may be about the channel: the user there is not of our making.
        if node.record.fence is FenceMode.ACL:
            self._refused_at[name] = now
        if attempt.deadline <= now or not self._choices.nodes.keys() - attempt.tried.keys():
            self._fail(attempt, self._failure(attempt))
        else:
            self._retries += 1
            self._submit(attempt)

    @staticmethod
    def _failure(attempt: _Attempt) -> NotPublished:
        if attempt.tried:
            reasons = "; ".join(f"{node}: {why}" for node, why in attempt.tried.items())
            return NotPublished("publish_failed", f"no node took the message ({reasons})")
        return NotPublished("no_node", "no node can be published to")

    def _receivers_of(self, channel: bytes, node: NodeLink) -> tuple[int, int]:
        """Return how often the node counts this sidecar, and what it should count instead.

        Where the node does not count it, because the connection was lost, its clients get nothing.
        """
        subscribed = node.subscribed
        own = subscribed.counted(channel) if subscribed is not None else 0
        return own, self._receivers.receivers(channel) if own else 0
