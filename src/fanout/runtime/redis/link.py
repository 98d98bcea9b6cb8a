"""One connection to one Redis: many commands in flight, replies matched first in, first out.

A link speaks RESP3, so that one connection can subscribe and run commands. It lives for one
connection only; whoever wants it back makes a new one. Commands are queued synchronously and go
out together at the next `flush`: what many local clients want in one turn is one write.

Long because all that can end a connection ends it in one place.
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
"""One turn of the reader: large enough to amortise the wake-up, small enough to stay fair."""

OUTBOX_BYTES_MAX = 64 * 1024 * 1024
"""Commands waiting for one Redis that does not read; past it the link is given up."""

OnAnswer = Callable[[Answer], None]
OnPushes = Callable[[list[list[Any]]], None]

_SUBSCRIBE_KINDS = frozenset((b"subscribe", b"unsubscribe", b"psubscribe", b"punsubscribe"))


def _ignore(_value: Any) -> None:
    """Do nothing with a push or an end of batch."""


@attrs.frozen
class LinkStatistics:
    """Bytes of one connection."""

    received_bytes: int = 0
    sent_bytes: int = 0
    waiting_bytes: int = 0  # now, for Redis to read them

    def __add__(self, other: "LinkStatistics") -> "LinkStatistics":
        return LinkStatistics(
            self.received_bytes + other.received_bytes,
            self.sent_bytes + other.sent_bytes,
            self.waiting_bytes + other.waiting_bytes,
        )


class Link:
    """A connected Redis. Make it with `connect`, run `run` as a task, then submit commands."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._reader = ReplyReader()
        self._outbox = Outbox(OUTBOX_BYTES_MAX)
        self._sender = Sender(transport, self._outbox)
        self._in_flight = InFlight()
        self._lost: LinkLost | None = None
        self.on_pushes: OnPushes = _ignore
        """Called for pushes that came in a row, synchronously; must not wait and must not raise."""
        self.runs: RunReader | None = None
        """Takes messages that come in a row, if set, and not `on_pushes`."""
        self.on_batch: Callable[[], None] = lambda: None
        """Called after each batch of replies and pushes, synchronously."""
        self.received_at = trio.current_time()
        """When bytes last arrived (trio's clock)."""
        self._received_bytes = 0

    @property
    def lost(self) -> bool:
        """Whether the connection has ended."""
        return self._lost is not None

    @property
    def in_flight(self) -> bool:
        """Whether any command waits for its answer."""
        return bool(self._in_flight)

    @property
    def answered(self) -> int:
        """Commands answered since the start; it stands still while Redis does."""
        return self._in_flight.answered

    def statistics(self) -> LinkStatistics:
        """Return what has passed since the connection was made, and what waits."""
        return LinkStatistics(
            received_bytes=self._received_bytes,
            sent_bytes=self._outbox.handed,
            waiting_bytes=self._outbox.size,
        )

    def submit(self, command: bytes, on_answer: OnAnswer) -> None:
        """Queue a packed command; `on_answer` is called exactly once, synchronously, later."""
        self.submit_all(command, (len(command),), lambda answers: on_answer(answers[0]))

    def submit_all(self, commands: bytes, ends: Sequence[int], on_answers: OnAnswers) -> None:
        """Queue packed commands, which end at `ends`; `on_answers` is called once with all answers."""
        reason = self._refusal(commands)
        if reason:
            on_answers([LinkLost(reason, written=False)] * len(ends))
        else:
            self._in_flight.expect(ends, on_answers)

    def submit_subscription(self, verb: bytes, names: tuple[bytes, ...]) -> None:
        """Queue SUBSCRIBE and its like; the confirmations arrive as pushes. An error ends the link."""
        command = pack(verb, *names)
        if not self._refusal(command):
            self._in_flight.expect_pushes(len(command), len(names))

    def _refusal(self, data: bytes) -> str:
        """Queue bytes; return why they cannot be, if so."""
        if self._lost is not None:
            return self._lost.reason
        if not self._outbox.append(data):
            self.close("it does not read: too many bytes wait for it")
            return "too many bytes wait for it"
        return ""

    def flush(self) -> None:
        """Send what is queued."""
        self._sender.flush()

    async def call(self, *arguments: Argument) -> Any:
        """Run one command and return its reply; the caller bounds the time.

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
        """End the connection; every unanswered command is told, and `run` ends."""
        if self._lost is not None:
            return
        self._lost = LinkLost(reason)
        self._transport.close()
        self._in_flight.lose(reason, self._outbox.handed)
        self.on_batch()

    async def run(self) -> None:
        """Read until the connection ends, then raise `LinkLost`. Cancelling it closes the link."""
        try:
            async with trio.open_nursery() as nursery:
                with self._sender.sending(nursery):
                    await self._read()
                nursery.cancel_scope.cancel()
        finally:
            self.close("closed on our side")
        assert self._lost is not None  # noqa: S101 - close() has just seen to it
        raise self._lost

    async def _read(self) -> None:
        """Turn bytes into answers and pushes until the stream ends, however it ends."""
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
            self.close(f"not the Redis protocol: {error}")

    def _take(self, data: bytes) -> None:
        """Hand over what is in the bytes, in its order: answers and pushes in a row together."""
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
        finally:  # also what came before something that ends the link
            if pushes:
                self.on_pushes(pushes)
            if replies:
                self._in_flight.take(replies)


async def connect(
    network: Network, endpoint: Endpoint, *, timeout_seconds: float, tls: bool = False
) -> Link:
    """Connect to a Redis. The protocol is negotiated by `greet` once the link runs.

    Raises:
        LinkLost: no connection within `timeout_seconds`, or refused.

    """
    try:
        with trio.fail_after(timeout_seconds):
            return Link(await network.connect(endpoint, tls=tls))
    except trio.TooSlowError:
        raise LinkLost(f"no connection to {endpoint} within {timeout_seconds:g} s") from None
    except OSError as error:
        raise LinkLost(f"cannot connect to {endpoint}: {error.strerror or error}") from error


async def greet(link: Link, address: RedisAddress) -> None:
    """Switch a running link to RESP3, authenticate and select the database of `address`.

    Raises:
        CommandFailed: Redis refuses: wrong credentials, or older than Redis 6.
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
    """Connect to a Redis, log in, and run `body` until it returns or the connection ends.

    The link is closed afterwards in any case. `timeout_seconds` bounds the connection and,
    separately, the login.

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
                raise LinkLost(f"{address.endpoint} did not answer HELLO")
            await body(link)
        except (LinkLost, CommandFailed) as failure:
            failures.append(failure)
        link.close("closed on our side")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_body)
        try:
            await link.run()
        except LinkLost as lost:
            if lost.reason != "closed on our side":
                failures.append(lost)
        nursery.cancel_scope.cancel()
    if failures:
        raise failures[0]
