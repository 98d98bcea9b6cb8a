"""The door for websocket clients."""

import itertools

import trio

from fanout.runtime.doors.ws_connection import DOOR, WebSocketClient
from fanout.runtime.net.accept import accept_clients
from fanout.runtime.net.transport import Listener, Transport
from fanout.runtime.sidecar.hub import Hub
from fanout.values.names import NodeId
from fanout.wire.ws import bridge_frames
from fanout.wire.ws.origins import Callers

GAP_SECONDS = 1.0
"""How long the news of gaps is gathered after some was sent: a link that flaps is no flood."""

CLOSING_SECONDS = 1.0
"""How long clients may go on after they were told that the sidecar leaves."""


class WebSocketDoor:
    """Serves websocket clients and tells all of them what concerns all of them.

    The page of the admin door, whose URL is `admin`, may be a client.
    """

    def __init__(self, hub: Hub, listener: Listener, admin: str) -> None:
        self._hub = hub
        self._listener = listener
        self._callers = Callers.with_page(
            listener.endpoint, hub.config.origin, hub.config.host, admin
        )
        self._clients: dict[WebSocketClient, None] = {}
        hub.gate.on_change.append(self._users_changed)
        self._numbers = itertools.count(1)
        self._gaps: dict[NodeId, str] = {}  # not yet told; of each node the latest
        self._gap_noted = trio.Event()
        self._emptied = trio.Event()

    async def serve(self) -> None:
        """Serve until cancelled."""
        self._hub.on_gap = self._note_gap
        limits = self._hub.config.limits
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell_gaps)
            await accept_clients(
                self._listener,
                self._serve_client,
                clients_max=limits.clients_max,
                connects_per_second_max=limits.connects_per_second_max,
                refusal=b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
                on_refused=self._hub.consumers[DOOR.name].refuse,
            )

    def _users_changed(self) -> None:
        """Cut off those who have lost a right that they use."""
        for client in list(self._clients):
            client.consumer.recheck(client.session)

    async def leave(self) -> None:
        """Tell the clients that the sidecar leaves; wait for them to go, but not for long."""
        frame = bridge_frames.closing_frame("shutdown")
        for client in self._clients:
            if client.opened:
                client.consumer.send(frame)
        self._hub.flush()
        with trio.move_on_after(CLOSING_SECONDS):
            while self._clients:
                self._emptied = trio.Event()
                await self._emptied.wait()

    async def _serve_client(self, transport: Transport) -> None:
        client = WebSocketClient(self._hub, transport, next(self._numbers), self._callers)
        self._clients[client] = None
        try:
            await client.serve()
        finally:
            del self._clients[client]
            if not self._clients:
                self._emptied.set()

    def _note_gap(self, node: NodeId, reason: str) -> None:
        self._gaps[node] = reason
        self._gap_noted.set()

    async def _tell_gaps(self) -> None:
        while True:
            await self._gap_noted.wait()
            self._gap_noted = trio.Event()
            gaps, self._gaps = self._gaps, {}
            frames = b"".join(
                bridge_frames.gap_frame(node, reason) for node, reason in gaps.items()
            )
            for client in self._clients:
                if client.consumer.subscribed:
                    client.consumer.send(frames)
            self._hub.flush()
            await trio.sleep(GAP_SECONDS)
