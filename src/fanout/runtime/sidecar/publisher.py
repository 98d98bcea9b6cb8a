"""The publisher: sends each message to one node and reports the outcome.

Three outcomes: executed; not executed; unknown, when the connection was lost with the publish in
flight. A message that was not executed is retried on the next node until the deadline. An unknown
outcome is never retried: a second copy would be a duplicate.

Long because messages behind a barrier, parked ones and retries must keep one order.
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
from fanout.core.hearing import Hearing
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
from fanout.wire.redis.client import ReplyError, error_text, numsub, pack

PARKED_BYTES_MAX = 16 * 1024 * 1024
"""Publishes parked while no node accepts them; above the limit they fail at once."""


BARRIER_TIMEOUT_SECONDS = 1.0
"""How long a channel that moved waits for the slowest sidecar; less than any publish timeout."""

BARRIER_RECENT_SECONDS = 10.0
"""A node without publishes for this long needs no barrier: all its messages have arrived."""

REFUSED_SECONDS = 10.0
"""How long a node counts as fenced after it refused a publish, unless it executes one before."""


_NONE: Mapping[NodeId, str] = MappingProxyType({})


class Receivers(Protocol):
    """The part of the dispatch table that the publisher needs."""

    def receivers(self, channel: bytes) -> int:
        """Return the number of local receivers of a channel."""


@attrs.frozen
class PublisherStatistics:
    """The outcomes of publishes since the start, and those that wait now."""

    executed: HistogramStatistics  # from the request to the node's reply
    failed: Mapping[str, int]  # code, or `unknown` -> messages
    retries: int  # messages sent to another node after a refusal
    waiting: int  # messages parked because no node accepts them
    waiting_bytes: int
    barrier_timeouts: int


@attrs.define(eq=False, slots=True)
class _Attempt:
    """One message that left the fast path: it is held, parked, or retried on another node."""

    outcomes: Outcomes
    index: int
    deadline: float
    tried: Mapping[NodeId, str] = _NONE  # node that refused it -> reason

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
    """Chooses the node for each message, and retries refused ones."""

    def __init__(
        self,
        sidecar: SidecarId,
        receivers: Receivers,
        hearing: Hearing,
        *,
        timeout_seconds: float,
        on_deadline: Callable[[], None],
    ) -> None:
        self._sidecar = sidecar
        self._receivers = receivers
        self._hearing = hearing
        self._timeout_seconds = timeout_seconds
        self._on_deadline = on_deadline  # called when `next_deadline` may be earlier than before
        self._choices: Choices[NodeLink] = Choices()
        self._parked: deque[_Attempt] = deque()
        self._parked_bytes = 0
        self._dirty: dict[Link, None] = {}
        self._barriers: OrderBarriers[_Attempt] = OrderBarriers(
            timeout_seconds=BARRIER_TIMEOUT_SECONDS
        )
        self._used: dict[NodeId, float] = {}  # deadline of the last publish on each node
        self._deadline: float | None = None  # of all publishes before the next flush
        self._executed = Histogram(SHORT_SECONDS)
        self._failures: Counter[str] = Counter()
        self._retries = 0
        self._refused_at: dict[NodeId, float] = {}  # node -> time of its last refusal

    def use(self, nodes: Mapping[NodeId, NodeLink]) -> None:
        """Publish to these nodes from now on; each must have a data link."""
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
        """Publish messages; call `done` once, now or later, with the outcome of each."""
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
            assert link is not None  # noqa: S101 - `_parts` has checked it
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
        """Return the indexes of the messages for each node; None when any message must wait."""
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
        """Settle the messages of a run that a node executed; fail or retry the others."""
        channels, counts = outcomes.run.channels, list[int]()
        last, own, local = None, 0, 0
        for index, answer in zip(indexes, answers, strict=True):
            channel = channels[index]
            if channel is not last:  # the same for successive messages of a channel
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
        """Count messages that a node has executed."""
        link = node.data
        now = link.received_at if link is not None else trio.current_time()
        self._executed.add(now - deadline + self._timeout_seconds, executed)
        if self._refused_at:
            self._refused_at.pop(node.record.node, None)

    def flush(self) -> None:
        """Send all commands submitted since the last flush."""
        self._deadline = None
        dirty, self._dirty = self._dirty, {}
        for link in dirty:
            link.flush()

    def expire(self, now: float) -> None:
        """Fail parked messages whose deadline has passed, and end late barriers."""
        while self._parked and self._parked[0].deadline <= now:
            attempt = self._parked.popleft()
            self._parked_bytes -= len(attempt.command)
            self._fail(attempt, self._failure(attempt))
        self._resubmit(self._barriers.expire(now))

    def next_deadline(self) -> float:
        """Return the earliest deadline for `expire`; infinity when there is none."""
        parked = self._parked[0].deadline if self._parked else float("inf")
        return min(parked, self._barriers.next_deadline())

    def refusing(self, now: float) -> frozenset[NodeId]:
        """Return the nodes that refused a publish recently, hence count as fenced."""
        recent = now - REFUSED_SECONDS
        return frozenset(node for node, at in self._refused_at.items() if at > recent)

    def statistics(self) -> PublisherStatistics:
        """Return the outcomes since the start and the parked messages."""
        return PublisherStatistics(
            executed=self._executed.statistics(),
            failed=MappingProxyType(dict(self._failures)),
            retries=self._retries,
            waiting=len(self._parked),
            waiting_bytes=self._parked_bytes,
            barrier_timeouts=self._barriers.timeouts,
        )

    def has_barrier(self, node: NodeId) -> bool:
        """Return whether sidecars have yet to receive an order barrier on a node."""
        return self._barriers.pending(node)

    def barrier_answered(self, number: int) -> None:
        """Record that a sidecar has received a barrier."""
        self._resubmit(self._barriers.answered(number))

    def _raise_barriers(self, before: Mapping[NodeId, NodeLink]) -> None:
        """Publish a barrier on every node of `before` that was used recently and is connected."""
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
            node = before[name]
            node.control(
                pack(b"PUBSUB", b"NUMSUB", CONTROL_CHANNEL),
                partial(self._barrier_counted, number, node),
            )
            message = encode_control(OrderBarrier(self._sidecar, number))
            links[name].submit(
                pack(b"PUBLISH", CONTROL_CHANNEL, message),
                partial(self._barrier_sent, number, node),
            )
            self._dirty[links[name]] = None

    def _barrier_counted(self, number: int, node: NodeLink, answer: Answer) -> None:
        """Take the subscribers of the control channel: patterns of clients are not among them."""
        count = numsub(answer)
        if count is not None:
            self._resubmit(self._barriers.bound(number, self._answering(node, count)))

    def _barrier_sent(self, number: int, node: NodeLink, answer: Answer) -> None:
        if type(answer) is int:
            self._resubmit(self._barriers.received(number, self._answering(node, answer)))
        else:
            self._resubmit(self._barriers.lost(number))

    def _answering(self, node: NodeLink, counted: int) -> int:
        """Return how many of the counted receivers will answer: not those known to be deaf.

        A deaf sidecar may still be counted, by a connection that delivers nothing; or not. So at
        least the sidecars that are known to hear the node are waited for.
        """
        name, incarnation = node.record.node, node.record.incarnation
        deaf = self._hearing.count(name, incarnation)
        if not deaf:
            return counted
        own = node.subscribed is not None and not node.unheard
        hearers = self._hearing.hearers(name, incarnation) + own
        return min(counted, max(counted - deaf, hearers))

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
        """Park a publish, in order, until a node accepts it or its deadline passes."""
        size = len(attempt.command)
        if self._parked_bytes + size > PARKED_BYTES_MAX:
            why = "no node accepts publishes, and the queue of waiting publishes is full"
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
            why = f"connection to the node lost after the message was sent: {answer.reason}"
            self._fail(attempt, OutcomeUnknown(why))
        elif isinstance(answer, LinkLost):
            self._submit(attempt)  # parked until the node is removed from the choices
        elif isinstance(answer, ReplyError):
            self._refused(attempt, node, error_text(answer))
        else:
            self._fail(attempt, OutcomeUnknown(f"unexpected reply from the node: {answer!r:.64}"))

    def _fail(self, attempt: _Attempt, outcome: NotPublished | OutcomeUnknown) -> None:
        self._failures[outcome.code if isinstance(outcome, NotPublished) else "unknown"] += 1
        attempt.done(outcome)

    def _refused(self, attempt: _Attempt, node: NodeLink, why: str) -> None:
        """Retry a refused message on another node; fail it when none is left or at the deadline."""
        now, name = trio.current_time(), node.record.node
        attempt.tried = {**attempt.tried, name: why}
        # In cooperative mode the refusal may concern the channel: the operator made the user.
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
            return NotPublished("publish_failed", f"no node accepted the message ({reasons})")
        return NotPublished("no_node", "no node accepts publishes")

    def _receivers_of(self, channel: bytes, node: NodeLink) -> tuple[int, int]:
        """Return how often the node counts this sidecar, and how many local receivers to add.

        A node that does not count it has lost the connection: its clients get no message.
        """
        subscribed = node.subscribed
        own = subscribed.counted(channel) if subscribed is not None else 0
        return own, self._receivers.receivers(channel) if own else 0
