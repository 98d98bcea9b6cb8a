"""The fan-out of a sidecar: subscribe on all nodes, publish to one, deliver to local clients.

Everything here is synchronous, hence atomic between checkpoints. A task hands in input (a batch of
pushes from a node, the requests of a client) and then calls `flush`, which sends all pending output
at once: subscriptions and publishes to the nodes first, then deliveries and replies to the clients.
`Fleet` decides which nodes to use, see `use`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import trio

from fanout.core.dispatch import Dispatch, DispatchStatistics
from fanout.core.subscriptions import LinkSubscriptions, Subscriptions, Ticket
from fanout.notice import Notice
from fanout.runtime.process.logs import FloodLog
from fanout.runtime.sidecar.census import Census
from fanout.runtime.sidecar.clients import Clients, ClientsStatistics
from fanout.runtime.sidecar.member_log import MemberLog
from fanout.runtime.sidecar.node_link import NodeLink
from fanout.runtime.sidecar.nodes import Nodes
from fanout.runtime.sidecar.publisher import Publisher, PublisherStatistics
from fanout.runtime.sidecar.recipient import ENCODERS, LocalRecipient
from fanout.runtime.sidecar.traffic import Traffic
from fanout.values.names import (
    CONTROL_CHANNEL,
    INBOX_PREFIX,
    PRESENCE_CHANNEL,
    RESERVED_PREFIX,
    Kind,
    NodeId,
    SidecarId,
    Space,
    probe_channel,
)
from fanout.values.requests import Outcome, PublishRun, Question

DOORS = ("resp", "ws")


@attrs.frozen(kw_only=True)
class FanoutStatistics:
    """A sidecar's clients, deliveries and publishes."""

    clients: tuple[ClientsStatistics, ...]  # of each door
    dispatch: DispatchStatistics
    publisher: PublisherStatistics
    unconfirmed: int  # names not yet confirmed to a client


class Fanout:
    """The subscriptions, deliveries and publishes of a sidecar.

    Args:
        sidecar: the id of this sidecar.
        nodes: the links to the nodes; `Fleet` adds and removes them.
        publish_timeout_seconds: the time limit of a publish.
        member_log: where slow clients are reported.
        reports_changed: set when `stopped` of a node may have changed, see `Presence`.

    """

    def __init__(
        self,
        sidecar: SidecarId,
        nodes: Nodes,
        *,
        publish_timeout_seconds: float,
        member_log: MemberLog,
        reports_changed: Notice,
    ) -> None:
        self.clients = self._make_clients(member_log)
        """The local clients of each door."""
        self._nodes = nodes
        self._reports_changed = reports_changed
        self._deadline_moved = Notice()
        self._subscriptions = Subscriptions()
        self._dispatch: Dispatch[LocalRecipient] = Dispatch(ENCODERS)
        self._publisher = Publisher(
            sidecar,
            self._dispatch,
            timeout_seconds=publish_timeout_seconds,
            on_deadline=self._deadline_moved.set,
        )
        self._census = Census(sidecar, self._dispatch, nodes, on_deadline=self._deadline_moved.set)
        self._traffic: Traffic | None = None  # set while channels are counted
        self._touched: dict[LocalRecipient, None] = {}
        own = (
            *(PRESENCE_CHANNEL, CONTROL_CHANNEL, probe_channel(sidecar)),
            *(INBOX_PREFIX + sidecar.encode(), *self._census.channels),
        )
        self._subscriptions.acquire(Kind.CHANNEL, own, lambda: None)

    @staticmethod
    def _make_clients(member_log: MemberLog) -> Mapping[str, Clients]:
        flood_log = FloodLog()
        return {door: Clients(door, member_log, flood_log) for door in DOORS}

    # Called by the doors.

    def subscribe(
        self, kind: Kind, names: Sequence[bytes], on_confirmed: Callable[[], None]
    ) -> Ticket:
        """Subscribe on all nodes; a later `flush` calls `on_confirmed` once."""
        return self._subscriptions.acquire(kind, names, on_confirmed)

    def abandon(self, ticket: Ticket) -> None:
        """Drop an unconfirmed subscribe request; its names must be released separately."""
        self._subscriptions.abandon(ticket)

    def release(self, kind: Kind, names: Sequence[bytes]) -> None:
        """Release one subscription to each of `names`; the last one unsubscribes on the nodes."""
        self._subscriptions.release(kind, names, trio.current_time())
        self._deadline_moved.set()

    def deliver(self, kind: Kind, name: bytes, client: LocalRecipient) -> None:
        """Start delivering messages of `name` to a client."""
        self._dispatch.add(kind, name, client)

    def stop_delivering(self, kind: Kind, name: bytes, client: LocalRecipient) -> None:
        """Stop delivering messages of `name` to a client."""
        self._dispatch.discard(kind, name, client)

    def publish(self, run: PublishRun, done: Callable[[Sequence[Outcome]], None]) -> None:
        """Publish messages; call `done` once, now or later, with the outcome of each."""
        if self._traffic is not None:
            self._traffic.published.add(run.channels)
        self._publisher.publish(run, done)

    def ask(self, question: Question, done: Callable[[Mapping[bytes, int]], None]) -> None:
        """Count clients in the whole fleet; call `done` once with the counts, now or later."""
        self._census.ask(question, done)

    @property
    def unheard(self) -> tuple[NodeId, ...]:
        """The active nodes that this sidecar does not hear."""
        return self._nodes.unheard

    def counts(self) -> dict[Space, int]:
        """Return how many names of each space the local clients subscribe to."""
        return {space: sum(1 for _ in self._dispatch.names(space)) for space in Space}

    def touch(self, client: LocalRecipient) -> None:
        """Schedule a client's outbox for the next flush."""
        self._touched[client] = None

    def flush(self) -> None:
        """Send all pending output: commands to nodes, deliveries, replies."""
        fed, slow = self._dispatch.encode()
        for ticket in self._subscriptions.confirmed():
            ticket.on_confirmed()
        for batch in self._subscriptions.batches():
            node = self._nodes.get(batch.link.node)
            if node is not None:
                node.subscribe(batch)
        self._publisher.flush()
        for client in fed:
            client.flush()
        touched, self._touched = self._touched, {}
        for client in touched:
            client.flush()
        for client in slow:
            client.overflow()

    # Called by the links to the nodes.

    def open(self, node: NodeId) -> LinkSubscriptions:
        """Start the subscriptions of a new connection to a node."""
        return self._subscriptions.open(node)

    def close(self, link: LinkSubscriptions) -> None:
        """Discard the subscriptions of a lost connection."""
        self._subscriptions.close(link)

    def take_pushes(
        self, link: LinkSubscriptions, pushes: list[list[Any]]
    ) -> tuple[int, list[tuple[bytes, bytes]]]:
        """Fan out the pushes of a node.

        Returns the number of client messages among them, and the channel and payload of each
        message on a reserved channel.
        """
        messages, reserved = len(pushes), []
        if self._traffic is not None:
            self._traffic.take(pushes)
        for push in self._dispatch.take(pushes):
            kind = push[0]
            if kind == b"message":
                messages -= 1
                if push[1].startswith(RESERVED_PREFIX):
                    reserved.append((push[1], push[2]))
            elif kind == b"pmessage":
                if push[2].startswith(RESERVED_PREFIX):
                    messages -= 1
                else:
                    self._dispatch.pmessage(push[1], push[2], push[3])
            elif kind in (b"subscribe", b"psubscribe", b"unsubscribe", b"punsubscribe"):
                messages -= 1
                self._subscriptions.acknowledge(
                    link,
                    subscribed=kind in (b"subscribe", b"psubscribe"),
                    kind=Kind.PATTERN if kind[0] == b"p"[0] else Kind.CHANNEL,
                    name=push[1],
                )
        return messages, reserved

    def take_run(self, channel: bytes, payloads: list[bytes]) -> bool:
        """Fan out successive messages of one channel; return False without local receivers."""
        if not self._dispatch.take_run(channel, payloads):
            return False
        if self._traffic is not None:
            self._traffic.take_run(channel, len(payloads))
        return True

    def take_census(self, node: NodeLink, channel: bytes, payload: bytes) -> None:
        """Handle a message on a census channel; ignore any other."""
        if channel in self._census.channels:
            self._census.on_message(node, channel, payload)

    def barrier_reached(self, number: int) -> None:
        """Record that a sidecar has received an order barrier of this one."""
        self._publisher.barrier_answered(number)
        self._reports_changed.set()

    def has_barrier(self, node: NodeId) -> bool:
        """Return whether sidecars have yet to receive an order barrier on a node."""
        return self._publisher.has_barrier(node)

    # Called by `Fleet`.

    def use(self, publishable: Mapping[NodeId, NodeLink], heard: frozenset[NodeId]) -> None:
        """Publish to `publishable` from now on; require confirmations from each of `heard`."""
        self._publisher.use(publishable)
        self._subscriptions.require(heard)
        self._deadline_moved.set()  # an order barrier may have started

    def refusing(self) -> frozenset[NodeId]:
        """Return the nodes that refused a publish recently."""
        return self._publisher.refusing(trio.current_time())

    async def keep_time(self) -> None:
        """Run the deadlines of subscriptions, publishes and census questions until cancelled."""
        parts = (self._subscriptions, self._publisher, self._census)
        while True:
            seen = self._deadline_moved.count
            with trio.move_on_at(min(part.next_deadline() for part in parts)):
                await self._deadline_moved.wait(seen)
            now = trio.current_time()
            for part in parts:
                part.expire(now)
            self.flush()
            self._reports_changed.set()

    # Monitoring.

    def begin_counting(self) -> None:
        """Count messages by channel and by client, until `end_counting`."""
        self._traffic = Traffic()
        self._dispatch.counting = True

    def end_counting(self) -> None:
        """Stop counting messages by channel and by client."""
        self._traffic = None
        self._dispatch.counting = False

    @property
    def traffic(self) -> Traffic | None:
        """The counters of channels; None while they are not counted."""
        return self._traffic

    def statistics(self) -> FanoutStatistics:
        """Return the present values and the totals since the start."""
        return FanoutStatistics(
            clients=tuple(each.statistics() for each in self.clients.values()),
            dispatch=self._dispatch.statistics(),
            publisher=self._publisher.statistics(),
            unconfirmed=self._subscriptions.unconfirmed,
        )
