"""The door for websocket clients."""

from typing import Any

import trio

from fanout.core.backoff import jittered
from fanout.runtime.accept import accept_clients
from fanout.runtime.consumer import Consumer, Door
from fanout.runtime.hub import Hub
from fanout.runtime.transport import Listener, Transport
from fanout.values import Encoding, NotPublished, Outcome, Published
from fanout.wire import bridge
from fanout.wire.websocket import (
    Binary,
    Closed,
    Event,
    Opened,
    Rejected,
    Text,
    WebSocketServer,
    close_frame,
)

RECEIVE_BYTES_MAX = 65_536
"""One turn of one client."""

HANDSHAKE_SECONDS = 5.0
"""How long a connection may take to become a websocket."""

IDLE_SECONDS = 25.0
"""A client that was silent this long is pinged; common proxies drop idle connections at 30 s."""

PONG_SECONDS = 8.0
"""How long a pinged client may stay silent."""

JSON_FACTOR = 6
"""A payload grows at most this much as JSON text (every byte an escape of six characters)."""

MESSAGE_MARGIN_BYTES = 65_536
"""Room for the rest of a request beside its payload."""


def _outcome(tag: Any, outcome: Outcome) -> bytes:
    if isinstance(outcome, Published):
        return bridge.published_frame(tag, outcome.receivers)
    if isinstance(outcome, NotPublished):
        return bridge.error_frame(tag, outcome.code, outcome.message)
    return bridge.error_frame(tag, "outcome_unknown", outcome.message)


def _farewell(code: str, reason: str) -> bytes:
    return close_frame(bridge.CLOSE_CODES[code], f"{code}: {reason}")


DOOR = Door(name="ws", outcome=_outcome, farewell=_farewell)


class _Client:
    """The loop of one websocket client."""

    def __init__(self, hub: Hub, transport: Transport) -> None:
        limits = hub.config.limits
        self._hub = hub
        self._transport = transport
        self._server = WebSocketServer(
            subprotocols=(bridge.SUBPROTOCOL,),
            message_bytes_max=JSON_FACTOR * limits.payload_bytes_max + MESSAGE_MARGIN_BYTES,
        )
        self._session = bridge.BridgeSession(hub.client_limits)
        self._consumer = Consumer(hub, transport, DOOR, Encoding.JSON)
        self._opened = False
        self._closed = False

    async def serve(self) -> None:
        try:
            await self._consumer.serve(self._read)
        finally:
            self._session.close()

    async def _read(self) -> None:
        with trio.move_on_after(HANDSHAKE_SECONDS):
            while not self._opened and await self._turn():
                pass
        if not self._opened:
            return
        while True:
            with trio.move_on_after(jittered(IDLE_SECONDS, self._hub.rng)) as idle:
                if not await self._turn():
                    return
            if idle.cancelled_caught and not await self._ping():
                return

    async def _ping(self) -> bool:
        self._consumer.send(self._server.ping())
        self._hub.flush()
        with trio.move_on_after(PONG_SECONDS) as silent:
            return await self._turn()
        assert silent.cancelled_caught  # noqa: S101 - the only way out of the block above
        self._consumer.cut("no_pong", f"no answer to a ping within {PONG_SECONDS:g} seconds")
        return False

    async def _turn(self) -> bool:
        """Read and perform what has come; False when the client is done."""
        data = await self._transport.receive_some(RECEIVE_BYTES_MAX)
        if not data:
            return False
        for event in self._server.receive(data):
            self._perform(event)
        if outgoing := self._server.outgoing():
            self._consumer.send(outgoing)
        self._hub.flush()
        # A cancelled wait here would lose nothing: what was read is performed.
        await self._consumer.room()
        return not (self._closed or self._consumer.closing)

    def _perform(self, event: Event) -> None:
        match event:
            case Opened():
                self._opened = True
                # The handshake response must precede whatever the first requests bring.
                self._consumer.send(self._server.outgoing())
            case Text(data):
                self._consumer.perform(self._session.handle(data))
            case Binary():
                self._consumer.perform(self._session.handle_binary())
            case Closed() | Rejected():
                self._closed = True
            case _:
                pass  # a pong: that bytes came was all we wanted


async def serve_ws(hub: Hub, listener: Listener) -> None:
    """Serve websocket clients until cancelled."""

    async def serve_client(transport: Transport) -> None:
        await _Client(hub, transport).serve()

    await accept_clients(
        listener,
        serve_client,
        clients_max=hub.config.limits.clients_max,
        refusal=b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
    )
