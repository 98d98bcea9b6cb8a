"""The door for websocket clients."""

import itertools

import trio

from fanout.notice import Notice
from fanout.runtime.doors.door import DoorContext
from fanout.runtime.doors.ws_connection import WsConnection
from fanout.runtime.net.accept import accept_clients
from fanout.runtime.net.transport import Listener, Transport
from fanout.runtime.sidecar.gaps import Gaps
from fanout.wire.ws import bridge_frames
from fanout.wire.ws.origins import OriginPolicy

GAP_SECONDS = 1.0
"""How long gaps are gathered between two notifications, so that a flapping link sends no flood."""

CLOSING_SECONDS = 1.0
"""How long clients may stay connected after the notice of the shutdown."""


class WsListener:
    """Serves websocket clients, and notifies them of gaps and of the shutdown.

    Args:
        context: the objects to pass to connections.
        listener: the bound address.
        policy: the allowed Host and Origin headers.
        gaps: the gaps to notify clients of.

    """

    def __init__(
        self, context: DoorContext, listener: Listener, policy: OriginPolicy, gaps: Gaps
    ) -> None:
        self._context = context
        self._fanout = context.fanout
        self._listener = listener
        self._policy = policy
        self._gaps = gaps
        self._connections: dict[WsConnection, None] = {}
        self._numbers = itertools.count(1)
        self._gone = Notice()
        context.authenticator.on_change.append(self._users_changed)

    async def serve(self) -> None:
        """Serve until cancelled."""
        limits = self._context.limits
        self._gaps.forget()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send_gaps)
            await accept_clients(
                self._listener,
                self._serve_client,
                clients_max=limits.clients_max,
                connects_per_second_max=limits.connects_per_second_max,
                refusal=b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
                on_refused=self._context.clients.refuse,
            )

    def _users_changed(self) -> None:
        """Disconnect the clients that lost a right that they use."""
        for each in list(self._connections):
            each.client.recheck(each.session, self._context.authenticator)

    async def leave(self) -> None:
        """Notify clients of the shutdown; wait a short time for them to disconnect."""
        frame = bridge_frames.closing_frame("shutdown")
        for each in self._connections:
            if each.opened:
                each.client.send(frame)
        self._fanout.flush()
        with trio.move_on_after(CLOSING_SECONDS):
            while self._connections:
                await self._gone.wait(self._gone.count)

    async def _serve_client(self, transport: Transport) -> None:
        connection = WsConnection(self._context, transport, next(self._numbers), self._policy)
        self._connections[connection] = None
        try:
            await connection.serve()
        finally:
            del self._connections[connection]
            self._gone.set()

    async def _send_gaps(self) -> None:
        """Send gaps to all clients with a subscription, until cancelled."""
        while True:
            gaps = await self._gaps.take()
            frames = b"".join(
                bridge_frames.gap_frame(node, reason) for node, reason in gaps.items()
            )
            for each in self._connections:
                if each.client.subscribed:
                    each.client.send(frames)
            self._fanout.flush()
            await trio.sleep(GAP_SECONDS)
