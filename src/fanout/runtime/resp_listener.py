"""The door for Redis clients."""

from collections.abc import Callable
from math import inf
from typing import Any

import trio

from fanout.errors import RemoteProtocolError
from fanout.runtime.accept import accept_clients
from fanout.runtime.consumer import Consumer
from fanout.runtime.door import Door
from fanout.runtime.gate import LOCKED_OUTBOX_BYTES_MAX, LOGIN_SECONDS
from fanout.runtime.hub import Hub
from fanout.runtime.logs import printable
from fanout.runtime.resp_clients import RespClients
from fanout.runtime.transport import Listener, Transport
from fanout.values import Close, Encoding, NotPublished, Outcome, Published
from fanout.wire import resp
from fanout.wire.client_state import UNANSWERED
from fanout.wire.requests import UNAUTHENTICATED, RequestDecoder, RequestLimits
from fanout.wire.session import Session

RECEIVE_BYTES_MAX = 65_536
"""One turn of one client; a client with more to say waits for the others."""

PAYLOAD_MARGIN_BYTES = 65_536
"""A payload somewhat over the limit is read whole and refused politely; beyond, we hang up."""


def _outcome(tag: Any, outcome: Outcome) -> bytes:
    if tag is UNANSWERED:
        return b""
    if isinstance(outcome, Published):
        return resp.integer(outcome.receivers)
    if isinstance(outcome, NotPublished):
        return resp.error(f"NOTPUBLISHED {outcome.code}: {outcome.message}")
    return resp.error(f"OUTCOMEUNKNOWN {outcome.message}")


def _farewell(code: str, reason: str) -> bytes:
    if code == "killed":  # in silence, as Redis does
        return b""
    return resp.error(f"ERR {code}: {reason}")


DOOR = Door(name="resp", outcome=_outcome, farewell=_farewell)


async def serve_resp(hub: Hub, listener: Listener, wall_milliseconds: Callable[[], int]) -> None:
    """Serve Redis clients until cancelled."""
    limits = hub.config.limits
    clients = RespClients(hub, listener.endpoint, wall_milliseconds)
    has_users = clients.has_users  # as long as the sidecar runs
    bulk_bytes_max = limits.payload_bytes_max + PAYLOAD_MARGIN_BYTES
    request_limits = RequestLimits(
        arguments_max=limits.arguments_max,
        bulk_bytes_max=bulk_bytes_max,
        request_bytes_max=bulk_bytes_max + limits.arguments_max * limits.channel_bytes_max,
    )

    async def serve_client(transport: Transport) -> None:
        consumer = Consumer(hub, transport, DOOR, Encoding.RESP2)
        session = Session(clients.next_id(), clients, hub.client_limits)
        decoder = RequestDecoder(request_limits)
        login = trio.CancelScope()
        login_deadline = trio.current_time() + LOGIN_SECONDS

        def bound() -> None:
            locked = session.locked
            decoder.limits = UNAUTHENTICATED if locked else request_limits
            login.deadline = login_deadline if locked else inf
            outbox_bytes_max = limits.outbox_bytes_max
            consumer.outbox.bytes_max = LOCKED_OUTBOX_BYTES_MAX if locked else outbox_bytes_max

        def handle(data: bytes) -> None:
            decoder.feed(data)
            while not consumer.closing and (request := decoder.next_request()) is not None:
                consumer.perform(session.handle(request))
                if has_users and session.locked is not (decoder.limits is UNAUTHENTICATED):
                    bound()

        async def read() -> None:
            while not consumer.closing and (
                data := await transport.receive_some(RECEIVE_BYTES_MAX)
            ):
                try:
                    handle(data)
                except RemoteProtocolError as error:
                    said = str(error).encode("utf-8", "surrogateescape")
                    consumer.complain("consumer_failed", "protocol_error", printable(said))
                    consumer.perform(Close(error.reply, reason=str(error)))
                hub.flush()
                await consumer.room()

        async def read_in_time() -> None:
            with login:
                await read()
            if login.cancelled_caught:
                consumer.cut("login_timeout", f"no login within {LOGIN_SECONDS:g} seconds")

        bound()
        clients.add(session, consumer, transport.peer)
        try:
            await consumer.serve(read_in_time)
        finally:
            clients.discard(session.state.client_id)
            session.close()

    await accept_clients(
        listener,
        serve_client,
        clients_max=limits.clients_max,
        connects_per_second_max=limits.connects_per_second_max,
        refusal=resp.error("ERR max number of clients reached"),
    )
