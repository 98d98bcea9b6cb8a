"""One node as this sidecar sees it: two connections, each kept on its own, and a probe.

`ctl` carries subscriptions, control messages and probes; `data` carries publishes only. They fail
and recover independently. After every connect the node must prove by its identity key that it is
the Redis that discovery speaks of: an address may meanwhile belong to another one.

PING is no proof of delivery, so when nothing was heard for a while a probe is published to a
channel of our own; if it does not come back the connection is given up.

Long because both connections, and what may be missed by them, are the state of one node.
"""

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol

import attrs
import structlog
import trio

from fanout.config import SidecarConfig
from fanout.core.backoff import Backoff, jittered, spread_seconds
from fanout.core.histogram import Histogram
from fanout.core.in_flight import Answer
from fanout.core.membership import Membership
from fanout.core.subscriptions import Batch, Line, Subscriptions
from fanout.core.users import CTL_USER, DATA_USER
from fanout.errors import CommandFailed, LinkLost
from fanout.runtime.net.transport import Network
from fanout.runtime.redis.identity import WrongIdentity, check_identity, identify
from fanout.runtime.redis.link import Link, LinkStatistics, OnAnswer, use_link
from fanout.runtime.redis.login import node_address
from fanout.runtime.sidecar.member_log import MemberLog
from fanout.runtime.sidecar.publisher import Publisher
from fanout.values.control import End, Fence, FenceReceived
from fanout.values.names import IDENTITY_KEY, INBOX_PREFIX, Kind, NodeId
from fanout.values.records import NodeRecord, NodeState
from fanout.wire.records import encode_control
from fanout.wire.redis.client import pack
from fanout.wire.redis.runs import RunReader

log = structlog.get_logger()

_VERBS = {
    (True, Kind.CHANNEL): b"SUBSCRIBE",
    (True, Kind.PATTERN): b"PSUBSCRIBE",
    (False, Kind.CHANNEL): b"UNSUBSCRIBE",
    (False, Kind.PATTERN): b"PUNSUBSCRIBE",
}


LATE_FACTOR = 2
"""How many times its time a probe may take while other messages come in front of it."""


class Owner(Protocol):
    """What a node's link needs of the hub."""

    config: SidecarConfig
    network: Network
    rng: random.Random
    membership: Membership
    member_log: MemberLog
    subscriptions: Subscriptions
    probe_channel: bytes
    publisher: Publisher
    on_gap: Callable[[NodeId, str], None]
    joins: Histogram
    drains: Histogram

    def on_pushes(self, line: Line, pushes: list[list[Any]]) -> None:
        """Take what the node has pushed."""

    def on_run(self, line: Line, channel: bytes, payloads: list[bytes]) -> None:
        """Take many messages of one channel that the node has pushed in a row."""

    def links_changed(self) -> None:
        """Follow a change of a link or of a node's state."""

    def flush(self) -> None:
        """Send everything that has become due."""


@attrs.frozen(kw_only=True)
class NodeStatistics:
    """One node as this sidecar sees it. Counts are since the sidecar has known the node."""

    node: NodeId
    state: NodeState
    covered: bool
    deaf: bool
    usable: bool
    published: int  # messages handed to it
    received: int  # messages it delivered
    bytes: LinkStatistics  # of both connections
    connects: Mapping[str, int]  # user -> connections on which the node has proved its identity
    link_failures: Mapping[str, int]  # user -> connections lost, and attempts that failed
    probes: int
    probe_failures: int
    probe_seconds: float  # how long the last one took that came back; 0 before the first
    gaps: Mapping[str, int]  # reason -> times


class NodeLink:
    """The connections of this sidecar to one node."""

    def __init__(self, hub: Owner, record: NodeRecord) -> None:
        timings = hub.config.timings
        self.record = record
        self.data: Link | None = None
        """The link to publish on, once the node has proved its identity."""
        self.line: Line | None = None
        """What is subscribed on the node by the present connection."""
        self.deaf = False
        """Whether an attempt to hear this node has failed since it was last heard."""
        self._hub = hub
        self._timings = timings
        self._backoff = Backoff(
            first_seconds=timings.reconnect_first_seconds,
            max_seconds=timings.reconnect_max_seconds,
        )
        self._ctl: Link | None = None
        self._scope = trio.CancelScope()
        self._probe_back = trio.Event()
        self._was_covered = False
        self._missed = False  # whether messages may be missed since the node was last heard
        self._heard = False  # whether the present or last connection could subscribe
        self._ended: int | None = None  # the incarnation whose END was read
        self._renewed = trio.Event()
        self.published = 0
        """Messages handed to the node since the start."""
        self.received = 0
        """Messages that the node delivered since the start."""
        self._since = trio.current_time()  # in the present state
        self._past = LinkStatistics()  # of connections that have ended
        self._connects: Counter[str] = Counter()
        self._link_failures: Counter[str] = Counter()
        self._probes = self._probe_failures = 0
        self._probe_seconds = 0.0
        self._gaps: Counter[str] = Counter()

    @property
    def covered(self) -> bool:
        """Whether everything local clients want is subscribed on the node."""
        return self.line is not None and self.line.covered

    @property
    def has_ended(self) -> bool:
        """Whether the last message of this life of the node was read."""
        return self._ended == self.record.incarnation

    @property
    def usable(self) -> bool:
        """Whether publishes can be sent to the node."""
        return self.data is not None and not self.data.lost

    @property
    def stopped(self) -> bool:
        """Whether this sidecar has left a draining node and all its publishes are answered."""
        if self.record.state is not NodeState.DRAINING:
            return False
        in_flight = self.data is not None and self.data.in_flight
        return not in_flight and not self._hub.publisher.fencing(self.record.node)

    def observe(self, record: NodeRecord) -> None:
        """Follow news of discovery; a new life or address needs new connections."""
        before, self.record = self.record, record
        if (record.state, record.incarnation) != (before.state, before.incarnation):
            self._note_stay(before.state, record)
        if (record.incarnation, record.endpoint) != (before.incarnation, before.endpoint):
            for link in (self._ctl, self.data):
                if link is not None:
                    link.close("the node began a new life")
            self._renewed.set()  # replaced here only: both connections may wait for it
            self._renewed = trio.Event()

    def leave(self) -> None:
        """Give up both connections for good."""
        self._note_stay(self.record.state, None)
        self._scope.cancel()

    def statistics(self) -> NodeStatistics:
        """Return how the node is, and what has passed."""
        links = (self._ctl, self.data)
        return NodeStatistics(
            node=self.record.node,
            state=self.record.state,
            covered=self.covered,
            deaf=self.deaf,
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
        if self._ctl is not None and batch.line is self.line:
            self._ctl.submit_subscription(_VERBS[batch.subscribe, batch.kind], batch.names)
            self._ctl.flush()

    def answer_fence(self, fence: Fence) -> None:
        """Tell a sidecar that its fence on this node came, behind all it published there."""
        inbox = INBOX_PREFIX + fence.sidecar.encode()
        self.control(pack(b"PUBLISH", inbox, encode_control(FenceReceived(fence.number))))

    def control(self, command: bytes, on_answer: OnAnswer = lambda _answer: None) -> None:
        """Send a command on the control connection; nothing when there is none."""
        if self._ctl is not None:
            self._ctl.submit(command, on_answer)
            self._ctl.flush()

    def probe_returned(self) -> None:
        """Take a probe that came back."""
        self._probe_back.set()

    def ended(self, end: End) -> None:
        """Leave after the node's last message: everything before it was received."""
        if (end.node, end.incarnation) != (self.record.node, self.record.incarnation):
            return
        self._ended = end.incarnation
        for link in (self._ctl, self.data):
            if link is not None:
                link.close("the node has ended")

    async def run(self) -> None:
        """Keep both connections until `leave`."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep, CTL_USER, self._control)
                nursery.start_soon(self._keep, DATA_USER, self._publishing)
        if self._missed:
            self._tell_gap("left")

    async def _keep(self, user: str, session: Callable[[Link], Awaitable[None]]) -> None:
        """Connect, run `session` until the link ends, wait, and so on.

        News of a node reaches all sidecars at once, and so does its end: each waits a little.
        """
        attempt = 0
        bound = log.bind(node=self.record.node, link=user)
        await self._spread()
        while True:
            while self.has_ended:
                await self._renewed.wait()
                await self._spread()
            began = trio.current_time()
            try:
                await use_link(
                    self._hub.network,
                    node_address(self._hub.config, self.record, user),
                    session,
                    timeout_seconds=self._timings.connect_timeout_seconds,
                )
            except (LinkLost, CommandFailed) as lost:
                self._link_failures[user] += 1
                bound.warning("link_lost", reason=str(lost))
                if isinstance(lost, WrongIdentity) and self.data is not None:
                    self.data.close(lost.reason)  # nothing of clients goes there
            if user == CTL_USER:
                # A connection that was lost may come right back; a failed attempt is deafness.
                self._set_deaf(deaf=self.deaf or not self._heard)
                self._heard = False
            if trio.current_time() - began > self._backoff.max_seconds:
                attempt = 0
            members = len(self._hub.membership.sidecars)
            await trio.sleep(self._backoff.delay_seconds(attempt, self._hub.rng, members=members))
            attempt += 1

    async def _spread(self) -> None:
        members = len(self._hub.membership.sidecars)
        await trio.sleep(self._hub.rng.uniform(0, spread_seconds(members)))

    async def _control(self, link: Link) -> None:
        """Subscribe on the node, fan out what it delivers, and probe it."""
        await identify(link, self.record, self._timings.connect_timeout_seconds)
        self._heard = True
        hub, incarnation = self._hub, self.record.incarnation
        line = self.line = hub.subscriptions.open(self.record.node)
        self._ctl = link
        self._connects[CTL_USER] += 1
        self._was_covered = False
        link.on_pushes = partial(hub.on_pushes, line)
        link.runs = RunReader(partial(hub.on_run, line))
        link.on_batch = self._batch_done
        try:
            hub.links_changed()
            hub.flush()
            await self._watch_ctl(link)
        finally:
            hub.subscriptions.close(line)
            self.line = self._ctl = None
            self._retire(link)
            if self._was_covered and self._ended != incarnation:
                self._gap("lost")
            hub.links_changed()
            hub.flush()

    def _batch_done(self) -> None:
        """End a batch of pushes: fan out, confirm, and notice that the node is covered."""
        if self.covered and not self._was_covered:
            self._was_covered = True
            self._gap("heard")
            self._set_deaf(deaf=False)
            self._hub.links_changed()
        self._hub.flush()

    async def _watch_ctl(self, link: Link) -> None:
        """Prove again and again that the node delivers, and that it still is the node.

        Traffic proves the first but not the second: a Redis that is made the replica of another
        keeps its clients, and takes the other's data.
        """
        timings, hub = self._timings, self._hub
        while True:
            await trio.sleep(jittered(timings.probe_interval_seconds, hub.rng))
            self._probe_back = trio.Event()
            answers: list[Answer] = []
            self.control(pack(b"GET", IDENTITY_KEY), answers.append)
            self.control(pack(b"PUBLISH", hub.probe_channel, b""))
            self._probes += 1
            since = trio.current_time()
            while not self._probe_back.is_set():
                # What comes meanwhile was published before it, and may be much; yet it does not
                # prove that anything of ours gets there.
                limit = timings.probe_timeout_seconds
                deadline = min(max(since, link.received_at) + limit, since + LATE_FACTOR * limit)
                if deadline <= trio.current_time():
                    self._heard = False
                    self._probe_failures += 1
                    raise LinkLost("a probe published on the node did not come back")
                with trio.move_on_at(deadline):
                    await self._probe_back.wait()
            self._probe_seconds = trio.current_time() - since
            check_identity(answers[0], self.record)  # it was asked for before

    async def _publishing(self, link: Link) -> None:
        """Offer the link to the publisher and notice when publishes are not answered."""
        await identify(link, self.record, self._timings.connect_timeout_seconds)
        hub = self._hub
        self.data = link
        self._connects[DATA_USER] += 1
        link.on_batch = self._publishes_answered
        try:
            hub.links_changed()
            hub.flush()
            await self._watch_data(link)
        finally:
            self.data = None
            self._retire(link)
            hub.links_changed()
            hub.flush()

    def _publishes_answered(self) -> None:
        """End a batch of answers; the last one of a draining node is news for its agent."""
        if self.stopped:
            self._hub.links_changed()
        self._hub.flush()

    async def _watch_data(self, link: Link) -> None:
        """Give the link up when no publish is answered for the time a publish may take."""
        limit = self._timings.publish_timeout_seconds
        answered, since = link.answered, trio.current_time()
        while True:
            await trio.sleep(limit / 4)
            if link.answered != answered or not link.in_flight:
                answered, since = link.answered, trio.current_time()
            elif trio.current_time() - since >= limit:
                raise LinkLost(f"a publish was not answered within {limit:g} seconds")

    def _gap(self, reason: str) -> None:
        """Report that messages may have been missed, unless nobody publishes on the node yet."""
        if self._missed or self.record.state is not NodeState.JOINING:
            self._missed = reason == "lost"
            self._tell_gap(reason)

    def _tell_gap(self, reason: str) -> None:
        self._gaps[reason] += 1
        self._hub.member_log.debug("messages_missed", node=self.record.node, reason=reason)
        self._hub.on_gap(self.record.node, reason)

    def _retire(self, link: Link) -> None:
        """Keep what was counted of a connection that ends."""
        self._past += attrs.evolve(link.statistics(), waiting_bytes=0)

    def _note_stay(self, state: NodeState, after: NodeRecord | None) -> None:
        """Count how long a join or a drain took that ends now: for `after`, or with the node."""
        now = trio.current_time()
        if state is NodeState.DRAINING:
            self._hub.drains.add(now - self._since)
        elif state is NodeState.JOINING and after and after.state is NodeState.ACTIVE:
            self._hub.joins.add(now - self._since)
        self._since = now

    def _set_deaf(self, *, deaf: bool) -> None:
        if deaf is not self.deaf:
            self.deaf = deaf
            self._hub.member_log.warning(
                "node_deaf" if deaf else "node_heard",
                node=self.record.node,
                state=self.record.state.value,
            )
            self._hub.links_changed()
            self._hub.flush()
