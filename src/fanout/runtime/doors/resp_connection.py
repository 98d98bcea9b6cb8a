"""One Redis client: its connection, its requests and its limits."""

from math import inf
from typing import Any

import trio

from fanout.errors import RemoteProtocolError
from fanout.runtime.doors.door import Door, DoorContext
from fanout.runtime.doors.local_client import LocalClient
from fanout.runtime.doors.resp_clients import RespClients
from fanout.runtime.net.transport import Transport
from fanout.runtime.process.logs import printable
from fanout.runtime.sidecar.authenticator import LOCKED_OUTBOX_BYTES_MAX, LOGIN_SECONDS
from fanout.runtime.sidecar.clients import Label
from fanout.values.requests import Close, Encoding, NotPublished, Outcome
from fanout.wire.resp import replies
from fanout.wire.resp.client_state import UNANSWERED
from fanout.wire.resp.heads import PublishHeadCache
from fanout.wire.resp.requests import UNAUTHENTICATED, RequestDecoder, request_limits
from fanout.wire.resp.session import Session

RECEIVE_BYTES_MAX = 65_536
"""Bytes read from one client in one turn; the rest waits until other clients had a turn."""


def _outcome(tag: Any, outcome: Outcome) -> bytes:
    if tag is UNANSWERED:
        return b""
    if isinstance(outcome, int):
        return replies.integer(outcome)
    if isinstance(outcome, NotPublished):
        return replies.error(f"NOTPUBLISHED {outcome.code}: {outcome.message}")
    return replies.error(f"OUTCOMEUNKNOWN {outcome.message}")


def _farewell(code: str, reason: str) -> bytes:
    if code == "killed":  # without a reply, as Redis does
        return b""
    return replies.error(f"ERR {code}: {reason}")


DOOR = Door(name="resp", outcome=_outcome, farewell=_farewell)


class RespConnection:
    """The loop of one Redis client."""

    def __init__(
        self,
        context: DoorContext,
        transport: Transport,
        clients: RespClients,
        heads: PublishHeadCache,
    ) -> None:
        limits = context.limits
        self.client = LocalClient(
            context,
            transport,
            door=DOOR,
            encoding=Encoding.RESP2,
            label=self._label,
        )
        self.session = Session(clients.next_id(), clients, context.client_limits, heads)
        self._fanout = context.fanout
        self._transport = transport
        self._lengths = heads.lengths
        self._has_users = clients.has_users  # constant while the sidecar runs
        self._outbox_bytes_max = limits.outbox_bytes_max
        self._limits = request_limits(context.client_limits, limits.arguments_max)
        self._decoder = RequestDecoder(self._limits)
        self._login = trio.CancelScope()
        self._login_deadline = trio.current_time() + LOGIN_SECONDS
        self._apply_limits()

    def _label(self) -> Label:
        state = self.session.state
        return Label(state.client_id, self._transport.peer, printable(state.name))

    async def serve(self) -> None:
        """Serve the client until it disconnects."""
        try:
            await self.client.serve(self._read_bounded)
        finally:
            self.session.close()

    async def _read_bounded(self) -> None:
        """Read until the client disconnects; disconnect it without a login in time."""
        with self._login:
            await self._read()
        if self._login.cancelled_caught:
            self.client.cut("login_timeout", f"no login within {LOGIN_SECONDS:g} seconds")

    async def _read(self) -> None:
        client = self.client
        while not client.closing and (
            data := await self._transport.receive_some(RECEIVE_BYTES_MAX)
        ):
            client.received_bytes += len(data)
            try:
                self._handle(data)
            except RemoteProtocolError as error:
                text = str(error).encode("utf-8", "surrogateescape")
                client.complain("consumer_failed", "protocol_error", printable(text))
                client.perform(Close(error.reply, reason=str(error)))
            self._fanout.flush()
            await client.room()

    def _handle(self, data: bytes) -> None:
        client, session, decoder = self.client, self.session, self._decoder
        decoder.feed(data)
        while not client.closing:
            if session.plain and (run := decoder.publishes(session.known, self._lengths)):
                session.state.last_command = b"publish"
                client.perform(run)
            if (request := decoder.next_request()) is None:
                return
            client.perform(session.handle(request))
            if self._has_users and session.locked is not (decoder.limits is UNAUTHENTICATED):
                self._apply_limits()

    def _apply_limits(self) -> None:
        """Apply the limits for clients before or after login."""
        locked = self.session.locked
        self._decoder.limits = UNAUTHENTICATED if locked else self._limits
        self._login.deadline = self._login_deadline if locked else inf
        self.client.outbox.bytes_max = LOCKED_OUTBOX_BYTES_MAX if locked else self._outbox_bytes_max
