"""One local client: what it asked for, what it is subscribed to, and the bytes on their way to it.

The two doors differ in how they read requests and write replies; what a request does is here.

Long because all that a client asks for changes the same state.
"""

import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from itertools import accumulate
from typing import Any

import trio

from fanout.config import Limits
from fanout.core.outbox import Outbox
from fanout.core.reply_queue import ReplyGroup, ReplyQueue, ReplySink, ReplySlot
from fanout.core.subscriptions import Name, Ticket
from fanout.notice import Notice
from fanout.runtime.doors.door import Authorized, Door
from fanout.runtime.net.sender import Sender
from fanout.runtime.net.transport import CONNECTION_ERRORS, Transport
from fanout.runtime.sidecar.authenticator import Authenticator
from fanout.runtime.sidecar.clients import Clients, Label
from fanout.runtime.sidecar.fanout import Fanout
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
"""Requests of one client that wait for their replies; past it, its requests are left unread."""

FAREWELL_SECONDS = 1.0
"""How long a client that is being disconnected may take to read the reason."""


async def _go() -> None:
    """Wait for nothing."""


class LocalClient:
    """One local client of the sidecar.

    Args:
        fanout: subscribes, publishes and delivers.
        clients: the clients of the door.
        limits: of each client.
        transport: the connection.
        door: how its requests are answered.
        encoding: how deliveries are written at first.
        label: returns the name of the client, for people.

    """

    def __init__(
        self,
        fanout: Fanout,
        clients: Clients,
        limits: Limits,
        transport: Transport,
        *,
        door: Door,
        encoding: Encoding,
        label: Callable[[], Label],
    ) -> None:
        self.encoding = encoding
        self.outbox = Outbox(limits.outbox_bytes_max)
        self.name = f"{door.name} client {transport.peer}"
        self.label = label
        self.received_bytes = 0
        self.published = 0
        """Messages it published since the start."""
        self.delivered = 0
        """Messages it was given while they were counted, see `Fanout.begin_counting`."""
        self.last = b""
        """What is sent last, unless the client is cut off."""
        self._fanout = fanout
        self._clients = clients
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
                f"took no bytes for {limits.write_timeout_seconds:g} seconds",
            ),
        )
        self._active: dict[Name, None] = {}  # what the fan-out delivers to this client
        self._tickets: dict[ReplySlot, Ticket] = {}  # subscribes not yet confirmed to it
        self._scope = trio.CancelScope()
        self._room = Notice()
        self._closing = False  # no more requests are read
        self._gone = False

    @property
    def closing(self) -> bool:
        """Whether no more of this client's requests should be read."""
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
        self, read: Callable[[], Any], linger: Callable[[], Awaitable[None]] = _go
    ) -> None:
        """Run `read`, the door's loop over requests, then say goodbye and forget the client.

        `linger` waits for the client to have read the goodbye, before the connection is closed.
        """
        self._clients.add(self)
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    # A client that went away needs no goodbye.
                    gone = contextlib.suppress(*CONNECTION_ERRORS)
                    with self._sender.sending(nursery), gone:
                        await read()
                        await self._until_unanswered(0)
                    nursery.cancel_scope.cancel()
        finally:
            self._forget()
            self.outbox.finish(self.last)
            with trio.move_on_after(FAREWELL_SECONDS, shield=True):
                with contextlib.suppress(*CONNECTION_ERRORS):
                    await self._sender.drain()
                    await linger()
            self._transport.close()
            self._clients.discard(self)

    def perform(self, action: Action | PublishRun) -> None:
        """Do what one request asks. Its reply is written in its slot, sooner or later."""
        self._perform(action, self._replies)

    def _perform(self, action: Action | PublishRun, sink: ReplySink) -> None:
        if type(action) is PublishRun:  # sooner than matching: this is the hot path
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
        """Wait until the client's earlier requests are answered far enough to read more."""
        await self._until_unanswered(UNANSWERED_MAX)

    def send(self, data: bytes) -> None:
        """Queue bytes for the client; they leave with the hub's next flush."""
        if self._gone:
            return
        if data:
            if not self.outbox.append(data):
                self.overflow()
            self._fanout.touch(self)
        if len(self._replies) <= UNANSWERED_MAX:
            self._room.set()

    def flush(self) -> None:
        """Hand the queued bytes to the network."""
        self._sender.flush()

    def overflow(self) -> None:
        """Cut off this slow consumer: its outbox is full."""
        limit = self.outbox.bytes_max
        self.cut("slow_consumer", f"more than {limit} bytes waited for the client")

    def cut(self, code: str, reason: str) -> None:
        """Disconnect the client; it is told why if it still reads. Idempotent."""
        if self._gone or self._scope.cancel_called:
            return
        self._clients.cut(code, self.name, reason)
        self._forget()  # now: nothing may be delivered behind the farewell
        self.last = b""
        self.outbox.truncate(self._door.farewell(code, reason))
        self._scope.cancel()

    def complain(self, event: str, code: str, reason: str) -> None:
        """Log and count a fault of the client."""
        self._clients.complain(event, code, self.name, reason)

    def recheck(self, session: Authorized, authenticator: Authenticator) -> None:
        """Cut off the client if the users, which have changed, no longer allow what it holds."""
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
        """Publish messages in a row."""
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
        """Ask the fleet when everything before is answered: what it changed is counted then.

        Within a group, whose parts leave together, the question is asked at once.
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
        """Start delivering: called when the confirmation is written, not a message earlier."""
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

    def _forget(self) -> None:
        """Give up everything this client wished for."""
        self._gone = True
        for kind, name in self._active:
            self._fanout.stop_delivering(kind, name, self)
        self._release_active()
        tickets, self._tickets = self._tickets, {}
        for ticket in tickets.values():
            self._fanout.abandon(ticket)
            for kind, name in ticket.names:
                self._fanout.release(kind, (name,))
