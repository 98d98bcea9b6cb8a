"""The door for Redis clients."""

from collections.abc import Callable
from math import inf
from typing import Any

import trio

from fanout.errors import RemoteProtocolError
from fanout.runtime.doors.consumer import Consumer
from fanout.runtime.doors.door import Door
from fanout.runtime.doors.resp_clients import RespClients
from fanout.runtime.net.accept import accept_clients
from fanout.runtime.net.transport import Listener, Transport
from fanout.runtime.process.logs import printable
from fanout.runtime.sidecar.consumers import Label
from fanout.runtime.sidecar.gate import LOCKED_OUTBOX_BYTES_MAX, LOGIN_SECONDS
from fanout.runtime.sidecar.hub import Hub
from fanout.values.requests import Close, Encoding, NotPublished, Outcome
from fanout.wire.resp import replies
from fanout.wire.resp.client_state import UNANSWERED
from fanout.wire.resp.heads import Heads
from fanout.wire.resp.requests import UNAUTHENTICATED, RequestDecoder, request_limits
from fanout.wire.resp.session import Session

RECEIVE_BYTES_MAX = 65_536
"""One turn of one client; a client with more to say waits for the others."""


def _outcome(tag: Any, outcome: Outcome) -> bytes:
    if tag is UNANSWERED:
        return b""
    if isinstance(outcome, int):
        return replies.integer(outcome)
    if isinstance(outcome, NotPublished):
        return replies.error(f"NOTPUBLISHED {outcome.code}: {outcome.message}")
    return replies.error(f"OUTCOMEUNKNOWN {outcome.message}")


def _farewell(code: str, reason: str) -> bytes:
    if code == "killed":  # in silence, as Redis does
        return b""
    return replies.error(f"ERR {code}: {reason}")


DOOR = Door(name="resp", outcome=_outcome, farewell=_farewell)


class _Client:
    """The loop of one Redis client."""

    def __init__(self, hub: Hub, transport: Transport, clients: RespClients, heads: Heads) -> None:
        limits = hub.config.limits
        self.consumer = Consumer(hub, transport, DOOR, Encoding.RESP2, self._label)
        self.session = Session(clients.next_id(), clients, hub.client_limits, heads)
        self._hub = hub
        self._transport = transport
        self._lengths = heads.lengths
        self._has_users = clients.has_users  # as long as the sidecar runs
        self._outbox_bytes_max = limits.outbox_bytes_max
        self._limits = request_limits(hub.client_limits, limits.arguments_max)
        self._decoder = RequestDecoder(self._limits)
        self._login = trio.CancelScope()
        self._login_deadline = trio.current_time() + LOGIN_SECONDS
        self._bound()

    def _label(self) -> Label:
        state = self.session.state
        return Label(state.client_id, self._transport.peer, printable(state.name))

    async def read(self) -> None:
        """Serve the client until it leaves; for a while only, if it does not log in."""
        with self._login:
            await self._read()
        if self._login.cancelled_caught:
            self.consumer.cut("login_timeout", f"no login within {LOGIN_SECONDS:g} seconds")

    async def _read(self) -> None:
        consumer = self.consumer
        while not consumer.closing and (
            data := await self._transport.receive_some(RECEIVE_BYTES_MAX)
        ):
            consumer.received_bytes += len(data)
            try:
                self._handle(data)
            except RemoteProtocolError as error:
                said = str(error).encode("utf-8", "surrogateescape")
                consumer.complain("consumer_failed", "protocol_error", printable(said))
                consumer.perform(Close(error.reply, reason=str(error)))
            self._hub.flush()
            await consumer.room()

    def _handle(self, data: bytes) -> None:
        consumer, session, decoder = self.consumer, self.session, self._decoder
        decoder.feed(data)
        while not consumer.closing:
            if session.plain and (run := decoder.publishes(session.known, self._lengths)):
                session.state.last_command = b"publish"
                consumer.perform(run)
            if (request := decoder.next_request()) is None:
                return
            consumer.perform(session.handle(request))
            if self._has_users and session.locked is not (decoder.limits is UNAUTHENTICATED):
                self._bound()

    def _bound(self) -> None:
        """Give a client that has yet to log in little room and little time."""
        locked = self.session.locked
        self._decoder.limits = UNAUTHENTICATED if locked else self._limits
        self._login.deadline = self._login_deadline if locked else inf
        self.consumer.outbox.bytes_max = (
            LOCKED_OUTBOX_BYTES_MAX if locked else self._outbox_bytes_max
        )


async def serve_resp(hub: Hub, listener: Listener, wall_milliseconds: Callable[[], int]) -> None:
    """Serve Redis clients until cancelled."""
    limits = hub.config.limits
    clients = RespClients(hub, listener.endpoint, wall_milliseconds)
    heads = Heads()

    async def serve_client(transport: Transport) -> None:
        client = _Client(hub, transport, clients, heads)
        session, consumer = client.session, client.consumer
        clients.add(session, consumer, transport.peer)
        try:
            await consumer.serve(client.read)
        finally:
            clients.discard(session.state.client_id)
            session.close()

    await accept_clients(
        listener,
        serve_client,
        clients_max=limits.clients_max,
        connects_per_second_max=limits.connects_per_second_max,
        refusal=replies.error("ERR max number of clients reached"),
        on_refused=hub.consumers[DOOR.name].refuse,
    )
