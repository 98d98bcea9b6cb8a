"""One local client: its requests, its subscriptions and its outbox.

The two doors differ in how they read requests and write replies; this module performs requests.

Long because all requests of a client change the same state.
"""

import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from itertools import accumulate
from typing import Any

import trio

from fanout.core.outbox import Outbox
from fanout.core.reply_queue import ReplyGroup, ReplyQueue, ReplySink, ReplySlot
from fanout.core.subscriptions import Name, Ticket
from fanout.notice import Notice
from fanout.runtime.doors.door import Authorized, Door, DoorContext
from fanout.runtime.net.sender import Sender
from fanout.runtime.net.transport import CONNECTION_ERRORS, Transport
from fanout.runtime.sidecar.authenticator import Authenticator
from fanout.runtime.sidecar.clients import Label
from fanout.values.requests import (
    Action,
    Ask,
    Close,
    Encoding,
    Exec,
    Outcome,
    Publish,
    PublishRun,
    Reply,
    Reset,
    Subscribe,
    Unsubscribe,
)
from fanout.wire.redis.client import publish_command

UNANSWERED_MAX = 16_384
"""Unanswered requests of one client; above the limit no more of its requests are read."""

FAREWELL_SECONDS = 1.0
"""How long a disconnected client may take to read the reason."""


async def _no_linger() -> None:
    """Return at once: the RESP door has no closing handshake."""


class LocalClient:
    """One local client of the sidecar.

    Args:
        context: what the door shares with all its clients.
        transport: the connection.
        door: writes the replies.
        encoding: the first encoding of deliveries.
        label: returns the client's name for people.

    """

    def __init__(
        self,
        context: DoorContext,
        transport: Transport,
        *,
        door: Door,
        encoding: Encoding,
        label: Callable[[], Label],
    ) -> None:
        limits = context.limits
        self.encoding = encoding
        self.outbox = Outbox(limits.outbox_bytes_max)
        self.name = f"{door.name} client {transport.peer}"
        self.label = label
        self.received_bytes = 0
        self.published = 0
        """Messages published since the start."""
        self.delivered = 0
        """Messages delivered while they were counted, see `Fanout.begin_counting`."""
        self.last = b""
        """The last bytes to send, unless the sidecar disconnects the client."""
        self._fanout = context.fanout
        self._clients = context.clients
        self._transport = transport
        self._door = door
        self._replies = ReplyQueue(self.send)
        self._sender = Sender(
            transport,
            self.outbox,
            stall_seconds=limits.write_timeout_seconds,
            on_stalled=partial(
                self.cut,
                "slow_consumer",
                f"read nothing for {limits.write_timeout_seconds:g} seconds",
            ),
        )
        self._active: dict[Name, None] = {}  # names that are delivered to this client
        self._tickets: dict[ReplySlot, Ticket] = {}  # subscribes not yet confirmed
        self._scope = trio.CancelScope()
        self._room = Notice()
        self._closing = False  # read no more requests
        self._gone = False

    @property
    def closing(self) -> bool:
        """Whether to read no more requests of this client."""
        return self._closing or self._gone

    @property
    def subscribed(self) -> bool:
        """Whether anything is delivered to this client."""
        return bool(self._active)

    @property
    def subscriptions(self) -> int:
        """Names that are delivered to this client."""
        return len(self._active)

    async def serve(
        self, read: Callable[[], Any], linger: Callable[[], Awaitable[None]] = _no_linger
    ) -> None:
        """Run `read`, the door's loop over requests, then send the last bytes and clean up.

        `linger` waits until the client has read the last bytes, before the connection is closed.
        """
        self._clients.add(self)
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    # A client that disconnected gets no last bytes.
                    gone = contextlib.suppress(*CONNECTION_ERRORS)
                    with self._sender.sending(nursery), gone:
                        await read()
                        await self._until_unanswered(0)
                    nursery.cancel_scope.cancel()
        finally:
            self._release_all()
            self.outbox.finish(self.last)
            with trio.move_on_after(FAREWELL_SECONDS, shield=True):
                with contextlib.suppress(*CONNECTION_ERRORS):
                    await self._sender.drain()
                    await linger()
            self._transport.close()
            self._clients.discard(self)

    def perform(self, action: Action | PublishRun) -> None:
        """Perform one request; its reply takes its place in the reply queue."""
        self._perform(action, self._replies)

    def _perform(self, action: Action | PublishRun, sink: ReplySink) -> None:
        if type(action) is PublishRun:  # faster than `match`: this is the hot path
            self._publish(action, (None,) * len(action.channels), sink)
            return
        match action:
            case Reply(data):
                sink.reply(data)
            case Publish():
                self.publish((action,), sink)
            case Subscribe():
                self._subscribe(action, sink)
            case Unsubscribe():
                sink.reply(partial(self._unsubscribe, action))
            case Reset():
                sink.reply(partial(self._reset, action))
            case Ask():
                self._ask(action, sink)
            case Exec(header, actions):
                group = ReplyGroup(self._replies)
                group.reply(header)
                for each in actions:
                    self._perform(each, group)
                group.seal()
            case Close(reply):
                self._closing = True
                sink.reply(reply)

    async def room(self) -> None:
        """Wait until few enough requests are unanswered to read more."""
        await self._until_unanswered(UNANSWERED_MAX)

    def send(self, data: bytes) -> None:
        """Queue bytes for the client; the next `Fanout.flush` sends them."""
        if self._gone:
            return
        if data:
            if not self.outbox.append(data):
                self.overflow()
            self._fanout.touch(self)
        if len(self._replies) <= UNANSWERED_MAX:
            self._room.set()

    def flush(self) -> None:
        """Send the queued bytes."""
        self._sender.flush()

    def overflow(self) -> None:
        """Disconnect this slow client: its outbox is full."""
        limit = self.outbox.bytes_max
        self.cut("slow_consumer", f"outbox exceeds {limit} bytes")

    def cut(self, code: str, reason: str) -> None:
        """Disconnect the client; send the reason if it still reads. Idempotent."""
        if self._gone or self._scope.cancel_called:
            return
        self._clients.cut(code, self.name, reason)
        self._release_all()  # now: no delivery may follow the last bytes
        self.last = b""
        self.outbox.truncate(self._door.farewell(code, reason))
        self._scope.cancel()

    def complain(self, event: str, code: str, reason: str) -> None:
        """Log and count a fault of the client."""
        self._clients.complain(event, code, self.name, reason)

    def recheck(self, session: Authorized, authenticator: Authenticator) -> None:
        """Disconnect the client if the changed users no longer allow its login or subscriptions."""
        if session.access is None:
            return
        access = authenticator.renew(session.access)
        if access is None:
            self.cut("revoked", "the secret is no longer valid")
        elif not session.may_keep(access):
            self.cut("revoked", "a subscription is no longer allowed")

    async def _until_unanswered(self, most: int) -> None:
        while len(self._replies) > most:
            await self._room.wait(self._room.count)

    def publish(self, publishes: Sequence[Publish], sink: ReplySink | None = None) -> None:
        """Publish successive messages."""
        commands = [publish_command(each.channel, each.payload) for each in publishes]
        run = PublishRun(
            [each.channel for each in publishes],
            b"".join(commands),
            list(accumulate(map(len, commands))),
        )
        self._publish(run, [each.tag for each in publishes], sink or self._replies)

    def _publish(self, run: PublishRun, tags: Sequence[Any], sink: ReplySink) -> None:
        self._clients.published += len(tags)
        self.published += len(tags)
        slot, reply = sink.reserve(len(tags)), self._door.outcome

        def done(outcomes: Sequence[Outcome]) -> None:
            sink.complete(slot, b"".join(map(reply, tags, outcomes)))

        self._fanout.publish(run, done)

    def _ask(self, action: Ask, sink: ReplySink) -> None:
        """Ask the fleet once all earlier requests are answered, so that they are counted.

        In a transaction, whose replies are sent together, ask at once.
        """
        if sink is not self._replies:
            self._begin_asking(action, sink, sink.reserve())
            return
        begin, slot = sink.reserve(), sink.reserve()
        sink.complete(begin, partial(self._begin_asking, action, sink, slot))

    def _begin_asking(self, action: Ask, sink: ReplySink, slot: ReplySlot) -> bytes:
        def answered(counts: Mapping[bytes, int]) -> None:
            sink.complete(slot, action.reply(counts))

        if not self._gone:
            self._fanout.ask(action.question, answered)
        return b""

    def _subscribe(self, action: Subscribe, sink: ReplySink) -> None:
        if not action.names:
            sink.reply(partial(self._door.confirmed, action, self._fanout.unheard))
            return
        slot = sink.reserve()
        self._tickets[slot] = self._fanout.subscribe(
            action.kind, action.names, partial(self._confirmed, sink, slot, action)
        )

    def _confirmed(self, sink: ReplySink, slot: ReplySlot, action: Subscribe) -> None:
        if not self._gone:
            sink.complete(slot, partial(self._begin, slot, action))

    def _begin(self, slot: ReplySlot, action: Subscribe) -> bytes:
        """Start delivering when the confirmation is written, not a message earlier."""
        if self._gone:
            return b""
        del self._tickets[slot]
        for name in action.names:
            self._fanout.deliver(action.kind, name, self)
            self._active[action.kind, name] = None
        return self._door.confirmed(action, self._fanout.unheard)

    def _unsubscribe(self, action: Unsubscribe) -> bytes:
        if self._gone:
            return b""
        for name in action.names:
            self._fanout.stop_delivering(action.kind, name, self)
            del self._active[action.kind, name]
        self._fanout.release(action.kind, action.names)
        return action.reply

    def _reset(self, action: Reset) -> bytes:
        if self._gone:
            return b""
        for kind, name in self._active:
            self._fanout.stop_delivering(kind, name, self)
        self.encoding = action.encoding
        if action.unsubscribe:
            self._release_active()
        for kind, name in self._active:
            self._fanout.deliver(kind, name, self)
        return action.reply

    def _release_active(self) -> None:
        active, self._active = self._active, {}
        for kind, name in active:
            self._fanout.release(kind, (name,))

    def _release_all(self) -> None:
        """Release all subscriptions of this client, and drop its pending requests."""
        self._gone = True
        for kind, name in self._active:
            self._fanout.stop_delivering(kind, name, self)
        self._release_active()
        tickets, self._tickets = self._tickets, {}
        for ticket in tickets.values():
            self._fanout.abandon(ticket)
            for kind, name in ticket.names:
                self._fanout.release(kind, (name,))
