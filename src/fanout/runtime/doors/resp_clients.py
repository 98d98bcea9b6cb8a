"""The clients of the RESP door: what one of them may learn of the others and of the sidecar."""

import os
from collections.abc import Callable, Collection

import attrs
import trio

from fanout.core.access import Access
from fanout.runtime.doors.consumer import Consumer
from fanout.runtime.sidecar.hub import Hub
from fanout.values.names import Endpoint, Space
from fanout.wire.resp.client_state import ClientFacts, SidecarFacts
from fanout.wire.resp.session import Session


@attrs.frozen(eq=False, slots=True)
class _Client:
    """One connected client."""

    session: Session
    consumer: Consumer
    address: str
    connected_at: float


class RespClients:
    """The register of the door; it is the sidecar as sessions see it."""

    def __init__(self, hub: Hub, endpoint: Endpoint, wall_milliseconds: Callable[[], int]) -> None:
        self._hub = hub
        self._endpoint = endpoint
        self._wall_milliseconds = wall_milliseconds
        self._run_id = f"{hub.rng.getrandbits(160):040x}"
        self._started_at = trio.current_time()
        self._clients: dict[int, _Client] = {}
        self._number = 0
        hub.gate.on_change.append(self._users_changed)

    @property
    def has_users(self) -> bool:
        """Whether clients must log in."""
        return self._hub.gate.has_users

    def log_in(self, client_id: int, name: str, secret: bytes) -> Access | None:
        """Return what a user may do; None when the secret is wrong."""
        access = self._hub.gate.log_in(name, secret)
        if access is None:
            # Not the name: whoever mixes up the two says a secret there.
            consumer = self._clients[client_id].consumer
            consumer.complain("login_failed", "wrong_secret", "no such user, or another secret")
        return access

    def _users_changed(self) -> None:
        """Cut off those who have lost a right that they use."""
        for client in list(self._clients.values()):
            client.consumer.recheck(client.session)

    def next_id(self) -> int:
        """Return the number of a new connection; none is given twice."""
        self._number += 1
        return self._number

    def add(self, session: Session, consumer: Consumer, peer: str) -> None:
        """Register a client."""
        # Redis names a client on a Unix socket by the socket.
        address = f"{self._endpoint.path}:0" if self._endpoint.path else peer
        self._clients[session.state.client_id] = _Client(
            session, consumer, address, trio.current_time()
        )

    def discard(self, client_id: int) -> None:
        """Forget a client whose connection has ended."""
        del self._clients[client_id]

    def clients(self) -> Collection[ClientFacts]:
        """Return the clients, oldest first."""
        now = trio.current_time()
        local = f"{self._endpoint.path}:0" if self._endpoint.path else str(self._endpoint)
        return [
            ClientFacts(
                client_id=client_id,
                address=client.address,
                local_address=local,
                age_seconds=now - client.connected_at,
                state=client.session.state,
            )
            for client_id, client in self._clients.items()
        ]

    def disconnect(self, client_id: int) -> None:
        """End the connection of a client, if it is still there."""
        client = self._clients.get(client_id)
        if client is not None:
            client.consumer.cut("killed", "another client ended the connection")

    def wall_microseconds(self) -> int:
        """Return the time of day since 1970, in steps of a millisecond."""
        return self._wall_milliseconds() * 1000

    def facts(self) -> SidecarFacts:
        """Return how the sidecar is."""
        hub = self._hub
        spaces = {space: sum(1 for _ in hub.dispatch.names(space)) for space in Space}
        return SidecarFacts(
            run_id=self._run_id,
            process_id=os.getpid(),
            tcp_port=self._endpoint.port,
            uptime_in_seconds=int(trio.current_time() - self._started_at),
            connected_clients=len(self._clients),
            maxclients=hub.config.limits.clients_max,
            total_connections_received=self._number,
            pubsub_channels=spaces[Space.CHANNELS],
            pubsub_patterns=spaces[Space.PATTERNS],
            pubsubshard_channels=spaces[Space.SHARDS],
            fanout={
                "sidecar": hub.config.id,
                "cluster": hub.config.cluster,
                "nodes_known": len(hub.nodes),
                "nodes_active": len(hub.active),
                "nodes_covered": sum(node.covered for node in hub.active.values()),
                "sidecars": len(hub.membership.sidecars),
                "ready": int(not hub.unready()),
            },
        )
