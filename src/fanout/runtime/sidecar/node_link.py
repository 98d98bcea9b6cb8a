"""One node as this sidecar sees it: two connections and a probe.

`ctl` carries subscriptions, control messages and probes; `data` carries publishes only. They fail
and reconnect independently. After every connect the identity key must prove that the Redis at the
address is the node in discovery: the address may belong to another Redis by then.

PING does not prove delivery. Therefore a probe is published at every interval to a channel of this
sidecar; when it does not return in time, the connection is closed.

Long because both connections, and the gaps they leave, are the state of one node.
"""

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from math import inf
from types import MappingProxyType
from typing import Any

import attrs
import structlog
import trio

from fanout.config import SidecarConfig
from fanout.core.backoff import Backoff, jittered, spread_seconds
from fanout.core.in_flight import Answer
from fanout.core.subscriptions import Batch, LinkSubscriptions
from fanout.core.users import CTL_USER, DATA_USER
from fanout.errors import CommandFailed, LinkLost
from fanout.notice import Notice
from fanout.runtime.net.transport import Network
from fanout.runtime.redis.identity import (
    MissingIdentity,
    WrongIdentity,
    check_identity,
    identify,
    is_primary,
)
from fanout.runtime.redis.link import Link, LinkStatistics, OnAnswer, use_link
from fanout.runtime.redis.login import node_address
from fanout.runtime.sidecar.link_owners import LinkFanout, LinkFleet
from fanout.runtime.sidecar.member_log import MemberLog
from fanout.values.control import BarrierReached, Deaf, End, OrderBarrier
from fanout.values.names import (
    CONTROL_CHANNEL,
    IDENTITY_KEY,
    INBOX_PREFIX,
    Kind,
    NodeId,
    SidecarId,
    probe_channel,
)
from fanout.values.records import NodeRecord, NodeState
from fanout.wire.records import decode_control, encode_control
from fanout.wire.redis.client import pack
from fanout.wire.redis.runs import RunReader

log = structlog.get_logger()

_VERBS = {
    (True, Kind.CHANNEL): b"SUBSCRIBE",
    (True, Kind.PATTERN): b"PSUBSCRIBE",
    (False, Kind.CHANNEL): b"UNSUBSCRIBE",
    (False, Kind.PATTERN): b"PUNSUBSCRIBE",
}


MISSING_FACTOR = 1.5
"""How many probe intervals the identity of a node may be missing: the agent restores it in one."""

LATE_FACTOR = 2
"""How many timeouts a probe may take while other messages arrive before it."""


@attrs.frozen(kw_only=True)
class NodeStatistics:
    """One node as this sidecar sees it. Counters start when the sidecar first sees the node."""

    node: NodeId
    state: NodeState
    covered: bool
    unheard: bool
    usable: bool
    published: int  # messages sent to it
    received: int  # messages received from it
    bytes: LinkStatistics  # of both connections
    connects: Mapping[str, int]  # user -> connections with a proven identity
    link_failures: Mapping[str, int]  # user -> connections lost, and failed attempts
    probes: int
    probe_failures: int
    probe_seconds: float  # round trip of the last one; 0 before the first
    gaps: Mapping[str, int]  # reason -> times


class NodeLink:
    """The connections of this sidecar to one node."""

    def __init__(
        self,
        record: NodeRecord,
        *,
        fleet: LinkFleet,
        fanout: LinkFanout,
        config: SidecarConfig,
        network: Network,
        rng: random.Random,
        member_log: MemberLog,
        on_gap: Callable[[NodeId, str], None],
    ) -> None:
        self.record = record
        self.data: Link | None = None
        """The link to publish on, once the node has proved its identity."""
        self.subscribed: LinkSubscriptions | None = None
        """The subscriptions of the present connection to the node."""
        self.unheard = False
        """Whether the node is not heard: an attempt failed since it was last heard."""
        self._fleet = fleet
        self._fanout = fanout
        self._config = config
        self._network = network
        self._rng = rng
        self._member_log = member_log
        self._on_gap = on_gap
        self._timings = config.timings
        self._probe_channel = probe_channel(SidecarId(config.id))
        self._inbox = INBOX_PREFIX + config.id.encode()
        self._backoff = Backoff(
            first_seconds=self._timings.reconnect_first_seconds,
            max_seconds=self._timings.reconnect_max_seconds,
        )
        self._ctl: Link | None = None
        self._scope = trio.CancelScope()
        self._probe_back = Notice()
        self._missing_since = inf  # of the identity key, on the present connection
        self._was_covered = False
        self._missed = False  # whether messages may be missed since it was last heard
        self._heard = False  # whether the present or last connection could subscribe
        self._ended: int | None = None  # the incarnation whose END was read
        self._renewed = Notice()
        self.published = 0
        """Messages sent to the node since the start."""
        self.received = 0
        """Messages received from the node since the start."""
        self._since = trio.current_time()  # in the present state
        self._past = LinkStatistics()  # of past connections
        self._connects: Counter[str] = Counter()
        self._link_failures: Counter[str] = Counter()
        self._probes = self._probe_failures = 0
        self._probe_seconds = 0.0
        self._gaps: Counter[str] = Counter()

    @property
    def covered(self) -> bool:
        """Whether all subscriptions of local clients are confirmed by the node."""
        return self.subscribed is not None and self.subscribed.covered

    @property
    def has_ended(self) -> bool:
        """Whether END, the last message of the node's incarnation, was received."""
        return self._ended == self.record.incarnation

    @property
    def usable(self) -> bool:
        """Whether publishes can be sent to the node."""
        return self.data is not None and not self.data.lost

    @property
    def stopped(self) -> bool:
        """Whether the node drains and every publish of this sidecar to it is answered."""
        if self.record.state is not NodeState.DRAINING:
            return False
        in_flight = self.data is not None and self.data.in_flight
        return not in_flight and not self._fanout.has_barrier(self.record.node)

    def observe(self, record: NodeRecord) -> None:
        """Apply a new record; reconnect for a new incarnation or address."""
        before, self.record = self.record, record
        if (record.state, record.incarnation) != (before.state, before.incarnation):
            self._note_stay(before.state, record)
        if (record.incarnation, record.endpoint) != (before.incarnation, before.endpoint):
            for link in (self._ctl, self.data):
                if link is not None:
                    link.close("the node began a new incarnation")
            self._renewed.set()

    def leave(self) -> None:
        """Close both connections for good."""
        self._note_stay(self.record.state, None)
        self._scope.cancel()

    def statistics(self) -> NodeStatistics:
        """Return the state of the node and its counters."""
        links = (self._ctl, self.data)
        return NodeStatistics(
            node=self.record.node,
            state=self.record.state,
            covered=self.covered,
            unheard=self.unheard,
            usable=self.usable,
            published=self.published,
            received=self.received,
            bytes=sum((each.statistics() for each in links if each is not None), self._past),
            connects=MappingProxyType(dict(self._connects)),
            link_failures=MappingProxyType(dict(self._link_failures)),
            probes=self._probes,
            probe_failures=self._probe_failures,
            probe_seconds=self._probe_seconds,
            gaps=MappingProxyType(dict(self._gaps)),
        )

    def subscribe(self, batch: Batch) -> None:
        """Send a batch of subscriptions, if it belongs to the present connection."""
        if self._ctl is not None and batch.link is self.subscribed:
            self._ctl.submit_subscription(_VERBS[batch.subscribe, batch.kind], batch.names)
            self._ctl.flush()

    def _answer(self, barrier: OrderBarrier) -> None:
        """Confirm a sidecar's order barrier: all it published before on this node was received."""
        inbox = INBOX_PREFIX + barrier.sidecar.encode()
        self.control(pack(b"PUBLISH", inbox, encode_control(BarrierReached(barrier.number))))

    def control(self, command: bytes, on_answer: OnAnswer = lambda _answer: None) -> None:
        """Send a command on the control connection; do nothing when there is none."""
        if self._ctl is not None:
            self._ctl.submit(command, on_answer)
            self._ctl.flush()

    def _take_pushes(self, subscribed: LinkSubscriptions, pushes: list[list[Any]]) -> None:
        """Fan out pushes of the node, and handle the messages for this sidecar itself."""
        messages, reserved = self._fanout.take_pushes(subscribed, pushes)
        self.received += messages
        for channel, payload in reserved:
            if channel == self._probe_channel:
                self._probe_back.set()
            elif channel in (CONTROL_CHANNEL, self._inbox):
                self._take_control(payload)
            else:
                self._fanout.take_census(self, channel, payload)

    def _take_run(
        self, subscribed: LinkSubscriptions, channel: bytes, payloads: list[bytes]
    ) -> None:
        """Fan out successive messages of one channel."""
        if self._fanout.take_run(channel, payloads):
            self.received += len(payloads)
        else:
            pushes = [[b"message", channel, payload] for payload in payloads]
            self._take_pushes(subscribed, pushes)

    def _take_control(self, payload: bytes) -> None:
        match decode_control(payload):
            case End() as end:
                self._end(end)
            case OrderBarrier() as barrier:
                self._answer(barrier)
            case BarrierReached(number):
                self._fanout.barrier_reached(number)
            case Deaf() as deaf:
                self._fleet.take_deaf(deaf)

    def _end(self, end: End) -> None:
        """Close both connections on END, the last message: everything before it was received."""
        if (end.node, end.incarnation) != (self.record.node, self.record.incarnation):
            return
        self._ended = end.incarnation
        for link in (self._ctl, self.data):
            if link is not None:
                link.close("the node sent END")

    async def run(self) -> None:
        """Keep both connections open until `leave`."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep, CTL_USER, self._control)
                nursery.start_soon(self._keep, DATA_USER, self._publishing)
        if self._missed:
            self._report_gap("left")

    async def _keep(self, user: str, session: Callable[[Link], Awaitable[None]]) -> None:
        """Connect, run `session` until the link ends, back off, and repeat.

        All sidecars learn of a new node at once, and of its end too: each waits a random time.
        """
        attempt = 0
        bound = log.bind(node=self.record.node, link=user)
        await self._spread()
        while True:
            while self.has_ended:
                await self._renewed.wait(self._renewed.count)
                await self._spread()
            began = trio.current_time()
            try:
                await use_link(
                    self._network,
                    node_address(self._config, self.record, user),
                    session,
                    timeout_seconds=self._timings.connect_timeout_seconds,
                )
            except (LinkLost, CommandFailed) as lost:
                self._link_failures[user] += 1
                bound.warning("link_lost", reason=str(lost))
                if isinstance(lost, WrongIdentity) and self.data is not None:
                    self.data.close(lost.reason)  # no message of a client may be sent there
            if user == CTL_USER:
                # A lost connection may be back at once; a failed attempt means not heard.
                self._set_unheard(unheard=self.unheard or not self._heard)
                self._heard = False
            if trio.current_time() - began > self._backoff.max_seconds:
                attempt = 0
            members = len(self._fleet.sidecars)
            await trio.sleep(self._backoff.delay_seconds(attempt, self._rng, members=members))
            attempt += 1

    async def _spread(self) -> None:
        members = len(self._fleet.sidecars)
        await trio.sleep(self._rng.uniform(0, spread_seconds(members)))

    async def _control(self, link: Link) -> None:
        """Subscribe on the node, fan out what it delivers, and probe it."""
        await identify(link, self.record, self._timings.connect_timeout_seconds)
        self._heard = True
        incarnation = self.record.incarnation
        subscribed = self.subscribed = self._fanout.open(self.record.node)
        self._ctl = link
        self._connects[CTL_USER] += 1
        self._was_covered = False
        self._missing_since = inf
        link.on_pushes = partial(self._take_pushes, subscribed)
        link.runs = RunReader(partial(self._take_run, subscribed))
        link.on_batch = self._batch_done
        try:
            self._fleet.links_changed()
            self._fanout.flush()
            await self._watch_ctl(link)
        finally:
            self._fanout.close(subscribed)
            self.subscribed = self._ctl = None
            self._retire(link)
            if self._was_covered and self._ended != incarnation:
                self._gap("lost")
            self._fleet.links_changed()
            self._fanout.flush()

    def _batch_done(self) -> None:
        """Finish a batch of pushes: fan out, confirm, and detect that the node is covered."""
        if self.covered and not self._was_covered:
            self._was_covered = True
            self._gap("heard")
            self._set_unheard(unheard=False)
            self._fleet.links_changed()
        self._fanout.flush()

    async def _watch_ctl(self, link: Link) -> None:
        """Probe delivery and identity at every interval.

        Traffic proves delivery, but not identity: a Redis that becomes a replica keeps its
        clients and takes over the data of its primary.
        """
        timings = self._timings
        while True:
            await trio.sleep(jittered(timings.probe_interval_seconds, self._rng))
            sent = self._probe_back.count
            answers: list[Answer] = []
            self.control(pack(b"GET", IDENTITY_KEY), answers.append)
            self.control(pack(b"PUBLISH", self._probe_channel, b""))
            self._probes += 1
            since = trio.current_time()
            while self._probe_back.count == sent:
                # Other messages that arrive now were published before the probe, and may be many.
                # They do not prove that publishes of this sidecar arrive.
                limit = timings.probe_timeout_seconds
                deadline = min(max(since, link.received_at) + limit, since + LATE_FACTOR * limit)
                if deadline <= trio.current_time():
                    self._heard = False
                    self._probe_failures += 1
                    raise LinkLost("probe timeout: a message published on the node did not arrive")
                with trio.move_on_at(deadline):
                    await self._probe_back.wait(sent)
            self._probe_seconds = trio.current_time() - since
            await self._check_identity(link, answers[0])  # Redis answers in order

    async def _check_identity(self, link: Link, answer: Answer) -> None:
        """Check the identity of the node; one missing on a primary has to stay missing.

        A flushed Redis has lost the key, and its agent puts it back within a probe interval. To
        disconnect at once would lose messages on every node that is flushed at the same time.

        Raises:
            WrongIdentity: it is another one, or missing for too long or on a replica.

        """
        now = trio.current_time()
        try:
            check_identity(answer, self.record)
        except MissingIdentity:
            since = self._missing_since = min(self._missing_since, now)
            is_recent = now - since < MISSING_FACTOR * self._timings.probe_interval_seconds
            if is_recent and await is_primary(link, self._timings.probe_timeout_seconds):
                return
            raise
        self._missing_since = inf

    async def _publishing(self, link: Link) -> None:
        """Publish over the link; close it when publishes are not answered."""
        await identify(link, self.record, self._timings.connect_timeout_seconds)
        self.data = link
        self._connects[DATA_USER] += 1
        link.on_batch = self._publishes_answered
        try:
            self._fleet.links_changed()
            self._fanout.flush()
            await self._watch_data(link)
        finally:
            self.data = None
            self._retire(link)
            self._fleet.links_changed()
            self._fanout.flush()

    def _publishes_answered(self) -> None:
        """Finish a batch of answers; after the last one of a draining node, update `stopped`."""
        if self.stopped:
            self._fleet.links_changed()
        self._fanout.flush()

    async def _watch_data(self, link: Link) -> None:
        """Raise LinkLost when no publish is answered within the publish timeout."""
        limit = self._timings.publish_timeout_seconds
        answered, since = link.answered, trio.current_time()
        while True:
            await trio.sleep(limit / 4)
            if link.answered != answered or not link.in_flight:
                answered, since = link.answered, trio.current_time()
            elif trio.current_time() - since >= limit:
                raise LinkLost(f"publish timeout: no reply within {limit:g} seconds")

    def _gap(self, reason: str) -> None:
        """Report a gap, unless the node is still joining: it has no publishes to miss."""
        if self._missed or self.record.state is not NodeState.JOINING:
            self._missed = reason == "lost"
            self._report_gap(reason)

    def _report_gap(self, reason: str) -> None:
        self._gaps[reason] += 1
        self._member_log.debug("messages_missed", node=self.record.node, reason=reason)
        self._on_gap(self.record.node, reason)

    def _retire(self, link: Link) -> None:
        """Add the counters of a closed connection to the totals."""
        self._past += attrs.evolve(link.statistics(), waiting_bytes=0)

    def _note_stay(self, state: NodeState, after: NodeRecord | None) -> None:
        """Record the time in a state that ends now; `after` is None when the node left."""
        now = trio.current_time()
        self._fleet.note_stay(state, after, now - self._since)
        self._since = now

    def _set_unheard(self, *, unheard: bool) -> None:
        if unheard is not self.unheard:
            self.unheard = unheard
            self._member_log.warning(
                "node_deaf" if unheard else "node_heard",
                node=self.record.node,
                state=self.record.state.value,
            )
            self._fleet.links_changed()
            self._fanout.flush()
