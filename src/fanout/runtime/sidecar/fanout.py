"""The fan-out of a sidecar: subscribe on all nodes, publish to one, deliver to local clients.

Everything here is synchronous, hence atomic between checkpoints: a task puts something in (a
batch of pushes from a node, requests of a client) and then calls `flush`, which sends everything
that has become due in one go: subscriptions and publishes to the nodes first, then deliveries and
replies to the clients. Which nodes there are is decided by `Fleet`, see `use`.
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
    unconfirmed: int  # names that a client waits for


class Fanout:
    """The subscriptions, deliveries and publishes of a sidecar.

    Args:
        sidecar: the id of this sidecar.
        nodes: the links, which `Fleet` adds and removes.
        publish_timeout_seconds: how long a publish may wait for its answer.
        member_log: where slow clients are reported.
        reports_changed: set when this sidecar may be done with a node, see `Presence`.

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
        self._traffic: Traffic | None = None  # while channels are counted
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

    # For the doors.

    def subscribe(
        self, kind: Kind, names: Sequence[bytes], on_confirmed: Callable[[], None]
    ) -> Ticket:
        """Subscribe on all nodes; `on_confirmed` is called once by a later `flush`."""
        return self._subscriptions.acquire(kind, names, on_confirmed)

    def abandon(self, ticket: Ticket) -> None:
        """Forget a subscribe request that was not confirmed; its names are released apart."""
        self._subscriptions.abandon(ticket)

    def release(self, kind: Kind, names: Sequence[bytes]) -> None:
        """Release one subscription to each of `names`; the last one ends it on the nodes."""
        self._subscriptions.release(kind, names, trio.current_time())
        self._deadline_moved.set()

    def deliver(self, kind: Kind, name: bytes, client: LocalRecipient) -> None:
        """Deliver messages of `name` to a client from now on."""
        self._dispatch.add(kind, name, client)

    def stop_delivering(self, kind: Kind, name: bytes, client: LocalRecipient) -> None:
        """Deliver messages of `name` to a client no longer."""
        self._dispatch.discard(kind, name, client)

    def publish(self, run: PublishRun, done: Callable[[Sequence[Outcome]], None]) -> None:
        """Publish messages; `done` is called once with the outcome of each, now or later."""
        if self._traffic is not None:
            self._traffic.published.add(run.channels)
        self._publisher.publish(run, done)

    def ask(self, question: Question, done: Callable[[Mapping[bytes, int]], None]) -> None:
        """Count clients in the whole fleet; `done` is called once, now or soon."""
        self._census.ask(question, done)

    @property
    def unheard(self) -> tuple[NodeId, ...]:
        """The active nodes whose messages do not reach this sidecar now."""
        return self._nodes.unheard

    def counts(self) -> dict[Space, int]:
        """Return how many names of each space the local clients subscribe to."""
        return {space: sum(1 for _ in self._dispatch.names(space)) for space in Space}

    def touch(self, client: LocalRecipient) -> None:
        """Have a client's outbox sent with the next flush."""
        self._touched[client] = None

    def flush(self) -> None:
        """Send everything that has become due: commands to nodes, deliveries, replies."""
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

    # For the links to the nodes.

    def open(self, node: NodeId) -> LinkSubscriptions:
        """Begin to subscribe on a new connection to a node."""
        return self._subscriptions.open(node)

    def close(self, link: LinkSubscriptions) -> None:
        """End the subscriptions of a lost connection."""
        self._subscriptions.close(link)

    def take_pushes(
        self, link: LinkSubscriptions, pushes: list[list[Any]]
    ) -> tuple[int, list[tuple[bytes, bytes]]]:
        """Fan out what a node has pushed.

        Returns how many messages of clients were among it, and the channel and payload of each
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
        """Fan out messages of one channel in a row; return False when no client here wants them."""
        if not self._dispatch.take_run(channel, payloads):
            return False
        if self._traffic is not None:
            self._traffic.take_run(channel, len(payloads))
        return True

    def take_census(self, node: NodeLink, channel: bytes, payload: bytes) -> None:
        """Take a message on a channel of the census; ignore any other."""
        if channel in self._census.channels:
            self._census.on_message(node, channel, payload)

    def barrier_reached(self, number: int) -> None:
        """Record that a sidecar has received an order barrier of this one."""
        self._publisher.barrier_answered(number)
        self._reports_changed.set()

    def has_barrier(self, node: NodeId) -> bool:
        """Return whether sidecars have yet to receive an order barrier on a node."""
        return self._publisher.has_barrier(node)

    # For the fleet.

    def use(self, publishable: Mapping[NodeId, NodeLink], heard: frozenset[NodeId]) -> None:
        """Publish to some nodes, and require confirmations of those that are heard."""
        self._publisher.use(publishable)
        self._subscriptions.require(heard)
        self._deadline_moved.set()  # an order barrier may have begun

    def refusing(self) -> frozenset[NodeId]:
        """Return the nodes that refused a publish lately."""
        return self._publisher.refusing(trio.current_time())

    async def keep_time(self) -> None:
        """Run the deadlines of subscriptions, publishes and questions; never returns."""
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

    # For those who look.

    def begin_counting(self) -> None:
        """Count messages by channel and by client, until `end_counting`."""
        self._traffic = Traffic()
        self._dispatch.counting = True

    def end_counting(self) -> None:
        """Count them no longer."""
        self._traffic = None
        self._dispatch.counting = False

    @property
    def traffic(self) -> Traffic | None:
        """The messages of each channel, while they are counted."""
        return self._traffic

    def statistics(self) -> FanoutStatistics:
        """Return the present numbers, and the sums since the start."""
        return FanoutStatistics(
            clients=tuple(each.statistics() for each in self.clients.values()),
            dispatch=self._dispatch.statistics(),
            publisher=self._publisher.statistics(),
            unconfirmed=self._subscriptions.unconfirmed,
        )
