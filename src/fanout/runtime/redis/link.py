"""One connection to one Redis: many commands in flight, replies matched first in, first out.

A link speaks RESP3, so that one connection can subscribe and run commands. It is used for one
connection only; to reconnect, create a new link. Commands are queued synchronously and sent
together at the next `flush`: the commands of many local clients in one turn are one write.

Long because every way a connection can end is handled in one place.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import attrs
import trio

from fanout.config import RedisAddress
from fanout.core.in_flight import Answer, InFlight, OnAnswers
from fanout.core.outbox import Outbox
from fanout.errors import CommandFailed, LinkLost, RemoteProtocolError
from fanout.runtime.net.sender import Sender
from fanout.runtime.net.transport import CONNECTION_ERRORS, Network, Transport
from fanout.values.names import Endpoint
from fanout.wire.redis.client import (
    NOT_YET,
    Argument,
    PushNotification,
    ReplyError,
    ReplyReader,
    pack,
)
from fanout.wire.redis.runs import RunReader

RECEIVE_BYTES_MAX = 131_072
"""Bytes per read: large enough to amortise the wake-up, small enough to be fair."""

OUTBOX_BYTES_MAX = 64 * 1024 * 1024
"""Unsent commands to one Redis; above the limit the link is closed."""

OnAnswer = Callable[[Answer], None]
OnPushes = Callable[[list[list[Any]]], None]

CLOSED_HERE = "closed by fanout"
"""The reason of a link that was not ended by Redis or the network."""

_SUBSCRIBE_KINDS = frozenset((b"subscribe", b"unsubscribe", b"psubscribe", b"punsubscribe"))


def _ignore(_value: Any) -> None:
    """Ignore pushes."""


@attrs.frozen
class LinkStatistics:
    """Bytes of one connection."""

    received_bytes: int = 0
    sent_bytes: int = 0
    waiting_bytes: int = 0  # not yet sent

    def __add__(self, other: "LinkStatistics") -> "LinkStatistics":
        return LinkStatistics(
            self.received_bytes + other.received_bytes,
            self.sent_bytes + other.sent_bytes,
            self.waiting_bytes + other.waiting_bytes,
        )


class Link:
    """A connection to Redis. Create it with `connect`, start `run` as a task, submit commands."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._reader = ReplyReader()
        self._outbox = Outbox(OUTBOX_BYTES_MAX)
        self._sender = Sender(transport, self._outbox)
        self._in_flight = InFlight()
        self._lost: LinkLost | None = None
        self.on_pushes: OnPushes = _ignore
        """Called synchronously with successive pushes; must not wait and must not raise."""
        self.runs: RunReader | None = None
        """If set, handles runs of messages in place of `on_pushes`."""
        self.on_batch: Callable[[], None] = lambda: None
        """Called synchronously after each batch of replies and pushes."""
        self.received_at = trio.current_time()
        """When bytes last arrived (trio's clock)."""
        self._received_bytes = 0

    @property
    def lost(self) -> bool:
        """Whether the connection has ended."""
        return self._lost is not None

    @property
    def in_flight(self) -> bool:
        """Whether any command waits for its reply."""
        return bool(self._in_flight)

    @property
    def answered(self) -> int:
        """Commands answered since the start; does not grow while Redis hangs."""
        return self._in_flight.answered

    def statistics(self) -> LinkStatistics:
        """Return connection statistics."""
        return LinkStatistics(
            received_bytes=self._received_bytes,
            sent_bytes=self._outbox.handed,
            waiting_bytes=self._outbox.size,
        )

    def submit(self, command: bytes, on_answer: OnAnswer) -> None:
        """Queue a packed command; call `on_answer` exactly once with its answer."""
        self.submit_all(command, (len(command),), lambda answers: on_answer(answers[0]))

    def submit_all(self, commands: bytes, ends: Sequence[int], on_answers: OnAnswers) -> None:
        """Queue packed commands, which end at `ends`; call `on_answers` once with all answers."""
        reason = self._refusal(commands)
        if reason:
            on_answers([LinkLost(reason, written=False)] * len(ends))
        else:
            self._in_flight.expect(ends, on_answers)

    def submit_subscription(self, verb: bytes, names: tuple[bytes, ...]) -> None:
        """Queue (P)SUBSCRIBE or (P)UNSUBSCRIBE, confirmed by pushes. An error ends the link."""
        command = pack(verb, *names)
        if not self._refusal(command):
            self._in_flight.expect_pushes(len(command), len(names))

    def _refusal(self, data: bytes) -> str:
        """Queue bytes; return the reason if that fails, else an empty string."""
        if self._lost is not None:
            return self._lost.reason
        if not self._outbox.append(data):
            self.close("Redis does not read: output buffer limit exceeded")
            return "output buffer limit exceeded"
        return ""

    def flush(self) -> None:
        """Send the queued commands."""
        self._sender.flush()

    async def call(self, *arguments: Argument) -> Any:
        """Run one command and return its reply; the caller sets a timeout.

        Raises:
            CommandFailed: Redis answered with an error.
            LinkLost: the connection ended first.

        """
        done = trio.Event()
        answers: list[Answer] = []

        def on_answer(answer: Answer) -> None:
            answers.append(answer)
            done.set()

        self.submit(pack(*arguments), on_answer)
        self.flush()
        await done.wait()
        if isinstance(answers[0], LinkLost):
            raise answers[0]
        if isinstance(answers[0], ReplyError):
            raise CommandFailed(str(answers[0]))
        return answers[0]

    def close(self, reason: str) -> None:
        """Close the connection; every unanswered command gets `LinkLost`, and `run` ends."""
        if self._lost is not None:
            return
        self._lost = LinkLost(reason)
        self._transport.close()
        self._in_flight.lose(reason, self._outbox.handed)
        self.on_batch()

    async def run(self) -> None:
        """Read until the connection ends, then raise `LinkLost`; close the link if cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                with self._sender.sending(nursery):
                    await self._read()
                nursery.cancel_scope.cancel()
        finally:
            self.close(CLOSED_HERE)
        assert self._lost is not None  # noqa: S101 - set by close()
        raise self._lost

    async def _read(self) -> None:
        """Turn bytes into answers and pushes until the stream ends or fails."""
        try:
            while True:
                data = await self._transport.receive_some(RECEIVE_BYTES_MAX)
                if not data:
                    self.close("Redis closed the connection")
                    return
                self.received_at = trio.current_time()
                self._received_bytes += len(data)
                self._take(data)
                self.on_batch()
        except LinkLost as lost:
            self.close(lost.reason)
        except CONNECTION_ERRORS as error:
            self.close(f"connection failed: {error}")
        except RemoteProtocolError as error:
            self.close(f"protocol error: {error}")

    def _take(self, data: bytes) -> None:
        """Dispatch the replies in the bytes, in order; successive answers or pushes together."""
        if self.runs is not None:
            data = self.runs.take(data, is_between=not self._reader.has_data())
        self._reader.feed(data)
        gets = self._reader.gets
        replies: list[Answer] = []
        pushes: list[list[Any]] = []
        try:
            while (reply := gets()) is not NOT_YET:
                if type(reply) is not PushNotification:
                    if pushes:
                        before, pushes = pushes, []
                        self.on_pushes(before)
                    replies.append(reply)
                    continue
                if replies:
                    answers, replies = replies, []
                    self._in_flight.take(answers)
                if reply[0] != b"message" and reply[0] in _SUBSCRIBE_KINDS:
                    self._in_flight.confirm()
                pushes.append(reply)
        finally:  # also those before a protocol error
            if pushes:
                self.on_pushes(pushes)
            if replies:
                self._in_flight.take(replies)


async def connect(
    network: Network, endpoint: Endpoint, *, timeout_seconds: float, tls: bool = False
) -> Link:
    """Connect to Redis and return the link; `greet` negotiates the protocol once it runs.

    Raises:
        LinkLost: the connection was refused, or timed out after `timeout_seconds`.

    """
    try:
        with trio.fail_after(timeout_seconds):
            return Link(await network.connect(endpoint, tls=tls))
    except trio.TooSlowError:
        raise LinkLost(f"connection to {endpoint} timed out after {timeout_seconds:g} s") from None
    except OSError as error:
        raise LinkLost(f"cannot connect to {endpoint}: {error.strerror or error}") from error


async def greet(link: Link, address: RedisAddress) -> None:
    """Switch a running link to RESP3, authenticate and select the database of `address`.

    Raises:
        CommandFailed: wrong credentials, or Redis is older than version 6.
        LinkLost: the connection ended.

    """
    login: tuple[str, ...] = ()
    if address.password:
        login = ("AUTH", address.username or "default", address.password)
    await link.call("HELLO", "3", *login)
    if address.database:
        await link.call("SELECT", address.database)


async def use_link(
    network: Network,
    address: RedisAddress,
    body: Callable[[Link], Awaitable[None]],
    *,
    timeout_seconds: float,
) -> None:
    """Connect to Redis, log in, and run `body` until it returns or the connection ends.

    The link is always closed afterwards. `timeout_seconds` limits the connect and, separately,
    the login.

    Raises:
        LinkLost: no connection, or it ended while `body` ran, or within `body`.
        CommandFailed: Redis refused the login, or a call within `body`.

    """
    link = await connect(
        network, address.endpoint, timeout_seconds=timeout_seconds, tls=address.tls
    )
    failures: list[LinkLost | CommandFailed] = []

    async def run_body() -> None:
        try:
            with trio.move_on_after(timeout_seconds) as scope:
                await greet(link, address)
            if scope.cancelled_caught:
                raise LinkLost(f"no answer to HELLO from {address.endpoint}")
            await body(link)
        except (LinkLost, CommandFailed) as failure:
            failures.append(failure)
        link.close(CLOSED_HERE)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_body)
        try:
            await link.run()
        except LinkLost as lost:
            if lost.reason != CLOSED_HERE:
                failures.append(lost)
        nursery.cancel_scope.cancel()
    if failures:
        raise failures[0]
