"""One websocket client: its handshake, its requests and its close."""

from typing import Any

import trio

from fanout.core.access import Access
from fanout.core.backoff import jittered
from fanout.runtime.doors.door import Door, DoorContext
from fanout.runtime.doors.local_client import LocalClient
from fanout.runtime.net.transport import Transport
from fanout.runtime.sidecar.authenticator import LOCKED_OUTBOX_BYTES_MAX, LOGIN_SECONDS
from fanout.runtime.sidecar.clients import Label
from fanout.values.names import NodeId
from fanout.values.requests import Action, Encoding, NotPublished, Outcome, Publish, Subscribe
from fanout.wire.ws import bridge, bridge_frames
from fanout.wire.ws.frames import close_frame
from fanout.wire.ws.origins import OriginPolicy
from fanout.wire.ws.websocket import Binary, Closed, Event, Opened, Rejected, Text, WebSocketServer

RECEIVE_BYTES_MAX = 16_384
"""Bytes read from one client in one turn; the smallest frames, at 10 us each, take 25 ms."""

HANDSHAKE_SECONDS = 5.0
"""The timeout of the websocket handshake."""

IDLE_SECONDS = 25.0
"""A client silent for this long is pinged; common proxies drop idle connections at 30 s."""

LOCKED_BYTES_MAX = 16_384
"""The largest message of a client that has not logged in."""

PONG_SECONDS = 8.0
"""The timeout of a pong."""

JSON_FACTOR = 6
"""The most that a payload grows as JSON text: every byte an escape of six characters."""

MESSAGE_MARGIN_BYTES = 65_536
"""The size of a request without its payload, at most."""


def _outcome(tag: Any, outcome: Outcome) -> bytes:
    if isinstance(outcome, int):
        return bridge_frames.published_frame(tag, outcome)
    if isinstance(outcome, NotPublished):
        return bridge_frames.error_frame(tag, outcome.code, outcome.message)
    return bridge_frames.error_frame(tag, "outcome_unknown", outcome.message)


def _farewell(code: str, reason: str) -> bytes:
    return close_frame(bridge.CLOSE_CODES[code], f"{code}: {reason}")


def _confirmed(action: Subscribe, unheard: tuple[NodeId, ...]) -> bytes:
    return bridge_frames.confirmed_frame(action.tag, unheard)


DOOR = Door(name="ws", outcome=_outcome, farewell=_farewell, confirmed=_confirmed)
GOODBYE = _farewell("shutdown", "the sidecar shuts down; connect again")


class WsConnection:
    """The loop of one websocket client."""

    def __init__(
        self, context: DoorContext, transport: Transport, number: int, policy: OriginPolicy
    ) -> None:
        limits = context.limits
        message_bytes_max = JSON_FACTOR * limits.payload_bytes_max + MESSAGE_MARGIN_BYTES
        label = Label(number, transport.peer)
        self.opened = False
        self.client = LocalClient(
            context,
            transport,
            door=DOOR,
            encoding=Encoding.JSON,
            label=lambda: label,
        )
        self._fanout = context.fanout
        self._authenticator = context.authenticator
        self._rng = context.rng
        self._outbox_bytes_max = limits.outbox_bytes_max
        self._transport = transport
        self._server = WebSocketServer(
            subprotocols=(bridge.SUBPROTOCOL,),
            message_bytes_max=message_bytes_max,
            policy=policy,
        )
        self.session = bridge.BridgeSession(context.client_limits, self)
        self._hello = bridge_frames.hello_frame(
            context.sidecar,
            number,
            {
                "payload_bytes": limits.payload_bytes_max,
                "name_bytes": limits.channel_bytes_max,
                "names": bridge.NAMES_MAX,
                "id_bytes": bridge.ID_BYTES_MAX,
                "message_bytes": message_bytes_max,
                "outbox_bytes": limits.outbox_bytes_max,
            },
        )
        self._message_bytes_max = message_bytes_max
        self._gathered: list[Publish] = []
        self._closed = False
        self._closed_by_peer = False

    @property
    def has_users(self) -> bool:
        """Whether the client must log in."""
        return self._authenticator.has_users

    def log_in_by_token(self, token: bytes) -> Access | None:
        """Return the rights of the user with this secret; None for an invalid token."""
        access = self._authenticator.log_in_by_token(token)
        if access is None and self.has_users:
            self.client.complain("login_failed", "wrong_secret", "invalid token")
        return access

    async def serve(self) -> None:
        """Serve the client until it disconnects."""
        try:
            await self.client.serve(self._read, self._linger)
        finally:
            self.session.close()

    async def _read(self) -> None:
        going = True
        with trio.move_on_after(HANDSHAKE_SECONDS) as handshake:
            while going and not self.opened:
                going = await self._turn()
        if handshake.cancelled_caught:
            self._fail(f"no handshake within {HANDSHAKE_SECONDS:g} seconds")
        with trio.move_on_after(LOGIN_SECONDS) as login:
            while going and self.opened and self.session.locked:
                going = await self._turn()
        if login.cancelled_caught:
            self.client.cut("login_timeout", f"no login within {LOGIN_SECONDS:g} seconds")
            return
        while going and self.opened:
            with trio.move_on_after(jittered(IDLE_SECONDS, self._rng)) as idle:
                going = await self._turn()
            if idle.cancelled_caught:
                going = await self._ping()

    async def _linger(self) -> None:
        """Read until the client sends its Close frame, or disconnects.

        Closing a TCP connection with unread bytes resets it; the client may lose the Close frame.
        """
        while not self._closed_by_peer:
            data = await self._transport.receive_some(RECEIVE_BYTES_MAX)
            ended = any(isinstance(event, Closed) for event in self._server.receive(data))
            self._closed_by_peer = ended or not data

    async def _ping(self) -> bool:
        self.client.send(self._server.ping())
        self._fanout.flush()
        with trio.move_on_after(PONG_SECONDS) as silent:
            return await self._turn()
        assert silent.cancelled_caught  # noqa: S101 - the block returns otherwise
        self.client.cut("no_pong", f"no answer to a ping within {PONG_SECONDS:g} seconds")
        return False

    async def _turn(self) -> bool:
        """Read and perform requests; return False when the connection ends."""
        data = await self._transport.receive_some(RECEIVE_BYTES_MAX)
        if not data:
            self.client.last = b""
            return False
        self.client.received_bytes += len(data)
        for event in self._server.events(data):
            self._perform(event)
        self._publish()
        if self._closed:  # the Close frame is last, after the replies to earlier requests
            self.client.last = self._server.outgoing()
        elif outgoing := self._server.outgoing():
            self.client.send(outgoing)
        self._fanout.flush()
        # Cancelling this wait loses nothing: all requests read are performed.
        await self.client.room()
        return not (self._closed or self.client.closing)

    def _apply_limits(self) -> None:
        """Apply the limits for clients before or after login."""
        locked = self.session.locked
        self.client.outbox.bytes_max = LOCKED_OUTBOX_BYTES_MAX if locked else self._outbox_bytes_max
        self._server.limit(LOCKED_BYTES_MAX if locked else self._message_bytes_max)

    def _fail(self, reason: str) -> None:
        self.client.complain("consumer_failed", "protocol_error", reason)

    def _act(self, action: Action) -> None:
        """Perform a request; gather successive messages, to publish them together."""
        if type(action) is Publish:
            self._gathered.append(action)
            return
        self._publish()
        self.client.perform(action)

    def _publish(self) -> None:
        """Publish the gathered messages."""
        if self._gathered:
            gathered, self._gathered = self._gathered, []
            self.client.publish(gathered)

    def _perform(self, event: Event) -> None:
        match event:
            case Opened(_, response, token):
                self.opened = True
                if token:
                    self.session.log_in(token)
                self._apply_limits()
                self.client.send(response + self._hello)
                self.client.last = GOODBYE
            case Text(data):
                was_locked = self.session.locked
                self._act(self.session.handle(data))
                if was_locked:
                    self._apply_limits()
            case Binary(data):
                self._act(self.session.handle_binary(data))
            case Closed(code, by_peer):
                self._closed = True
                self._closed_by_peer = by_peer
                if not by_peer:
                    self._fail(f"close code {code}")
            case Rejected(status):
                self._closed = True
                self._fail(f"HTTP status {status}")
            case _:
                pass  # a pong: any bytes reset the idle timeout
