"""Owns the cores of a sidecar and runs what they decide.

Everything here is synchronous, hence atomic between checkpoints: a task puts something in (a
batch from a node, requests of a client, news from discovery) and then calls `flush`, which sends
what has become due in one go.

Long because the parts of a sidecar meet here and nowhere else.
"""

import random
from collections.abc import Callable, Mapping
from math import inf
from typing import Any

import attrs
import structlog
import trio

from fanout.config import SidecarConfig
from fanout.core.dispatch import Dispatch, DispatchStatistics
from fanout.core.hearing import Hearing
from fanout.core.histogram import LONG_SECONDS, Histogram, HistogramStatistics
from fanout.core.membership import (
    Effect,
    Membership,
    NodeChanged,
    NodeConflict,
    NodeJoined,
    NodeLeft,
    SidecarChanged,
    SidecarJoined,
    SidecarLeft,
)
from fanout.core.subscriptions import Line, Subscriptions
from fanout.runtime.net.transport import Network
from fanout.runtime.process.logs import FloodLog
from fanout.runtime.sidecar.census import Census
from fanout.runtime.sidecar.consumers import Consumers, ConsumersStatistics
from fanout.runtime.sidecar.gate import Gate
from fanout.runtime.sidecar.local_client import ENCODERS, LocalClient, client_limits
from fanout.runtime.sidecar.member_log import MemberLog
from fanout.runtime.sidecar.node_link import NodeLink, NodeStatistics
from fanout.runtime.sidecar.publisher import Publisher, PublisherStatistics
from fanout.runtime.sidecar.traffic import Traffic
from fanout.values.control import Deaf, End, Fence, FenceReceived
from fanout.values.names import (
    CONTROL_CHANNEL,
    INBOX_PREFIX,
    PRESENCE_CHANNEL,
    RESERVED_PREFIX,
    Kind,
    NodeId,
    SidecarId,
)
from fanout.values.records import NodeState, Snapshot
from fanout.wire.records import decode_control, encode_control
from fanout.wire.redis.client import pack

log = structlog.get_logger()


@attrs.frozen(kw_only=True)
class HubStatistics:
    """A sidecar's membership, subscriptions, fan-out and publishing."""

    nodes: tuple[NodeStatistics, ...]
    consumers: tuple[ConsumersStatistics, ...]  # of each door
    dispatch: DispatchStatistics
    publisher: PublisherStatistics
    unconfirmed: int  # names that a client waits for
    joins: HistogramStatistics  # of nodes, as seen from here
    drains: HistogramStatistics
    conflicts: int  # agents that were noticed to use another one's node id
    sidecars: int  # known, this one included
    frozen: bool  # no discovery instance can be read


class Hub:
    """The sidecar's membership, subscriptions, fan-out and publishing, behind one door."""

    def __init__(
        self,
        config: SidecarConfig,
        network: Network,
        rng: random.Random,
        nursery: trio.Nursery,
        gate: Gate,
    ) -> None:
        self.gate = gate
        self.flood_log = FloodLog()
        self.member_log = MemberLog()
        self.traffic: Traffic | None = None
        """Counts the messages of each channel, while somebody looks."""
        self.config = config
        self.network = network
        self.rng = rng
        self.membership = Membership(config.cluster, instances=len(config.discovery))
        self.hearing = Hearing()
        self.client_limits = client_limits(config.limits)
        self.subscriptions = Subscriptions()
        self.dispatch: Dispatch[LocalClient] = Dispatch(ENCODERS)
        self.publisher = Publisher(
            SidecarId(config.id),
            self.dispatch,
            timeout_seconds=config.timings.publish_timeout_seconds,
            on_deadline=self.deadline_moved,
        )
        self.nodes: dict[NodeId, NodeLink] = {}
        self.consumers = {door: Consumers(door) for door in ("resp", "ws")}
        self.joins = Histogram(LONG_SECONDS)
        self.drains = Histogram(LONG_SECONDS)
        self._conflicts = 0
        self._frozen = False  # as was told
        self.on_change: Callable[[], None] = lambda: None
        """Called when what this sidecar tells discovery about itself may have changed."""
        self.on_gap: Callable[[NodeId, str], None] = lambda _node, _reason: None
        """Called when messages of a node may have been missed; says why, see GAP_REASONS."""
        self.probe_channel = RESERVED_PREFIX + b"probe:" + config.id.encode()
        self._nursery = nursery
        self._touched: dict[LocalClient, None] = {}
        self._deaf: dict[NodeId, int] = {}
        self._deadline_moved = trio.Event()
        self._inbox = INBOX_PREFIX + config.id.encode()
        self.census = Census(self)
        own = (PRESENCE_CHANNEL, CONTROL_CHANNEL, self.probe_channel, self._inbox)
        self.subscriptions.acquire(Kind.CHANNEL, (*own, *self.census.channels), lambda: None)

    # What the doors use.

    def touch(self, client: LocalClient) -> None:
        """Have a client's outbox sent with the next flush."""
        self._touched[client] = None

    def release(self, kind: Kind, names: tuple[bytes, ...]) -> None:
        """Give up one wish for each of `names`."""
        self.subscriptions.release(kind, names, trio.current_time())
        self.deadline_moved()

    def flush(self) -> None:
        """Send everything that has become due: deliveries, commands to nodes, replies."""
        fed, slow = self.dispatch.flush()
        for ticket in self.subscriptions.confirmed():
            ticket.on_confirmed()
        for batch in self.subscriptions.batches():
            node = self.nodes.get(batch.line.node)
            if node is not None:
                node.subscribe(batch)
        self.publisher.flush()
        for client in fed:
            client.flush()
        touched, self._touched = self._touched, {}
        for client in touched:
            client.flush()
        for client in slow:
            client.overflow()

    def deadline_moved(self) -> None:
        """Have `keep_time` look at the deadlines anew."""
        self._deadline_moved.set()

    # What the links to the nodes report.

    def on_pushes(self, line: Line, pushes: list[list[Any]]) -> None:
        """Take what a node has pushed: mostly messages to fan out."""
        others = 0
        if self.traffic is not None:
            self.traffic.take(pushes)
        for push in self.dispatch.take(pushes):
            kind = push[0]
            if kind == b"message":
                others += 1
                if push[1].startswith(RESERVED_PREFIX):
                    self._on_control(line.node, push[1], push[2])
            elif kind == b"pmessage":
                if push[2].startswith(RESERVED_PREFIX):
                    others += 1
                else:
                    self.dispatch.pmessage(push[1], push[2], push[3])
            elif kind in (b"subscribe", b"psubscribe", b"unsubscribe", b"punsubscribe"):
                others += 1
                self.subscriptions.acknowledge(
                    line,
                    subscribed=kind in (b"subscribe", b"psubscribe"),
                    kind=Kind.PATTERN if kind[0] == b"p"[0] else Kind.CHANNEL,
                    name=push[1],
                )
        if (node := self.nodes.get(line.node)) is not None:
            node.received += len(pushes) - others

    def on_run(self, line: Line, channel: bytes, payloads: list[bytes]) -> None:
        """Take many messages of one channel that a node has pushed in a row."""
        if not self.dispatch.take_run(channel, payloads):
            self.on_pushes(line, [[b"message", channel, payload] for payload in payloads])
            return
        if self.traffic is not None:
            self.traffic.take_run(channel, len(payloads))
        if (node := self.nodes.get(line.node)) is not None:
            node.received += len(payloads)

    def _on_control(self, node: NodeId, channel: bytes, payload: bytes) -> None:
        link = self.nodes.get(node)
        if link is None:
            return
        if channel == self.probe_channel:
            link.probe_returned()
        elif channel in self.census.channels:
            self.census.on_message(link, channel, payload)
        elif channel in (CONTROL_CHANNEL, self._inbox):
            match decode_control(payload):
                case End() as end:
                    link.ended(end)
                case Fence() as fence:
                    link.answer_fence(fence)
                case FenceReceived(number):
                    self.publisher.fence_answered(number)
                    self.on_change()
                case Deaf(sidecar, nodes) if sidecar in self.membership.sidecars:
                    if sidecar != self.config.id and self.hearing.tell(sidecar, nodes):
                        self.links_changed()

    def links_changed(self) -> None:
        """Follow a change of a link or a state: who is published to, and who must confirm."""
        for name, node in self.nodes.items():
            # Where another sidecar hears it somebody may publish: it stays, and is tried again.
            delivers = (
                self.hearing.is_heard(name, node.record.incarnation)
                or node.line is not None
                or node.usable
            )
            self.membership.alive(name, alive=delivers)
        self.deadline_moved()
        usable = {name: node for name, node in self.active.items() if node.usable}
        unheard = {name for name, node in usable.items() if node.deaf}
        lives = {name: node.record.incarnation for name, node in usable.items()}
        best = self.hearing.best(lives, unheard)
        self.publisher.use({name: node for name, node in usable.items() if name in best})
        heard = (name for name, node in self.carrying.items() if not node.deaf)
        self.subscriptions.require(frozenset(heard))
        self._say_deaf()
        self.on_change()

    @property
    def deaf(self) -> dict[NodeId, int]:
        """The nodes that this sidecar cannot hear, with their lives.

        One is unknown here that others hear when its agent died before this sidecar started.
        """
        known = {name: node.record.incarnation for name, node in self.nodes.items() if node.deaf}
        return known | self.unknown

    @property
    def unknown(self) -> dict[NodeId, int]:
        """The nodes that others hear and discovery does not tell of, with their lives."""
        unknown = self.hearing.unknown(self.nodes)
        if unknown:  # one that left is still covered by those who have yet to learn of it
            for record in self.membership.absent:
                left = record.state is not NodeState.ACTIVE
                if left and unknown.get(record.node) == record.incarnation:
                    del unknown[record.node]
        return unknown

    def own_words(self) -> dict[str, Any]:
        """Return what this sidecar says of the nodes: fields of its record."""
        nodes = self.nodes
        return {
            "covered": {name: n.record.incarnation for name, n in nodes.items() if n.covered},
            "stopped": {name: n.record.incarnation for name, n in nodes.items() if n.stopped},
            "deaf": self.deaf,
        }

    def _say_deaf(self) -> None:
        """Tell the other sidecars at once, by the nodes that are heard, what is not heard."""
        deaf = self.deaf
        if deaf == self._deaf:
            return
        for name in self.unknown.keys() - self._deaf.keys():
            self.member_log.warning("node_unknown", node=name, incarnation=deaf[name])
        self._deaf = deaf
        message = encode_control(Deaf(SidecarId(self.config.id), deaf))
        for node in self.nodes.values():
            if not node.deaf:
                node.control(pack(b"PUBLISH", CONTROL_CHANNEL, message))

    # What discovery reports.

    def on_snapshot(self, instance: int, snapshot: Snapshot) -> None:
        """Take what one discovery instance knows."""
        self._apply(self.membership.read(instance, snapshot, trio.current_time()))

    def on_unreachable(self, instance: int) -> None:
        """Take that one discovery instance cannot be read."""
        self._apply(self.membership.unreachable(instance, trio.current_time()))

    def _apply(self, effects: tuple[Effect, ...]) -> None:
        self._note_discovery()
        for effect in effects:
            match effect:
                case NodeJoined(record):
                    self.member_log.info(
                        "member_joined", node=record.node, state=record.state.value
                    )
                    self.nodes[record.node] = NodeLink(self, record)
                    self._nursery.start_soon(self.nodes[record.node].run)
                case NodeChanged(record, before):
                    if record.state is not before.state or record.incarnation > before.incarnation:
                        self.member_log.info(
                            "member_changed", node=record.node, state=record.state.value
                        )
                    self.nodes[record.node].observe(record)
                case NodeLeft(record, reason):
                    self.member_log.info("member_left", node=record.node, reason=reason)
                    self.nodes.pop(record.node).leave()
                case NodeConflict(record, rival):
                    self._conflicts += 1
                    self.member_log.error(
                        "member_conflict",
                        node=record.node,
                        kept=str(record.endpoint),
                        ignored=str(rival.endpoint),
                    )
                case SidecarJoined(record) | SidecarChanged(record):
                    if isinstance(effect, SidecarJoined):
                        self.member_log.debug("sidecar_joined", other=record.sidecar)
                    if record.sidecar != self.config.id:
                        self.hearing.tell(record.sidecar, record.deaf)
                        self.hearing.tell_covered(record.sidecar, record.covered)
                case SidecarLeft(record, reason):
                    self.member_log.debug("sidecar_gone", other=record.sidecar, reason=reason)
                    self.hearing.forget(record.sidecar)
        if effects:
            self.links_changed()
            self.flush()
        self.deadline_moved()

    def _note_discovery(self) -> None:
        """Tell when discovery cannot be read at all any more, and when it can again."""
        frozen = self.membership.frozen
        if frozen is self._frozen:
            return
        self._frozen = frozen
        if frozen:
            self.member_log.warning("discovery_frozen", nodes=len(self.nodes))
        else:
            self.member_log.info("discovery_back", nodes=len(self.nodes))

    # What time brings.

    async def keep_time(self) -> None:
        """Run the cores' deadlines; never returns."""
        cores = (self.membership, self.subscriptions, self.publisher, self.census)
        while True:
            self._deadline_moved = trio.Event()
            deadline = min(core.next_deadline() for core in cores)
            with trio.move_on_at(deadline):
                await self._deadline_moved.wait()
            now = trio.current_time()
            self.subscriptions.expire(now)
            self.publisher.expire(now)
            self.census.expire(now)
            self._apply(self.membership.advance(now))
            self.flush()
            self.on_change()

    # What it looks like from outside.

    @property
    def active(self) -> Mapping[NodeId, NodeLink]:
        """The nodes that carry publishes."""
        return {
            name: node for name, node in self.nodes.items() if node.record.state is NodeState.ACTIVE
        }

    @property
    def carrying(self) -> Mapping[NodeId, NodeLink]:
        """The nodes that somebody may still publish on: active, or draining before its END."""
        states = (NodeState.ACTIVE, NodeState.DRAINING)
        return {
            name: node
            for name, node in self.nodes.items()
            if node.record.state in states and not node.has_ended
        }

    def unready(self) -> str:
        """Say why this sidecar cannot serve its purpose now; empty when it can."""
        active = self.active
        if not active:
            return "no active node is known"
        uncovered = sorted(name for name, node in self.carrying.items() if not node.covered)
        if uncovered:
            return f"not subscribed on {', '.join(uncovered)}"
        closed = sorted(name for name, node in active.items() if not node.usable)
        if closed:
            return f"cannot publish to {', '.join(closed)}"
        if active.keys() <= self.publisher.refusing(trio.current_time()):
            return "every active node refuses publishes"
        return ""

    def facts(self) -> dict[str, Any]:
        """Return what readiness rests on, for people."""
        now = trio.current_time()
        age = self.membership.read_age(now)
        return {
            "nodes": {
                name: {
                    "state": node.record.state.value,
                    "covered": node.covered,
                    "deaf": node.deaf,
                    "usable": node.usable,
                }
                for name, node in sorted(self.nodes.items())
            },
            "unknown": sorted(self.unknown),
            "fenced": sorted(self.publisher.refusing(now)),
            "discovery_readable": not self.membership.frozen,
            "discovery_age_seconds": None if age == inf else round(age, 3),
        }

    def statistics(self) -> HubStatistics:
        """Return how the sidecar is, and what has passed."""
        return HubStatistics(
            nodes=tuple(node.statistics() for node in self.nodes.values()),
            consumers=tuple(each.statistics() for each in self.consumers.values()),
            dispatch=self.dispatch.statistics(),
            publisher=self.publisher.statistics(),
            unconfirmed=self.subscriptions.unconfirmed,
            joins=self.joins.statistics(),
            drains=self.drains.statistics(),
            conflicts=self._conflicts,
            sidecars=len(self.membership.sidecars),
            frozen=self.membership.frozen,
        )
