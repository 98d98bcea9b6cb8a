"""The registry of RESP clients, for CLIENT LIST, CLIENT KILL and INFO."""

import os
from collections.abc import Callable, Collection, Mapping

import attrs
import trio

from fanout.core.access import Access
from fanout.runtime.doors.door import DoorContext
from fanout.runtime.doors.local_client import LocalClient
from fanout.values.names import Endpoint, Space
from fanout.wire.resp.client_state import ClientFacts, SidecarFacts
from fanout.wire.resp.session import Session


@attrs.frozen(eq=False, slots=True)
class _Entry:
    """One connected client."""

    session: Session
    client: LocalClient
    address: str
    connected_at: float


class RespClients:
    """The clients of the door, and the facts of the sidecar that sessions may ask for."""

    def __init__(
        self,
        context: DoorContext,
        endpoint: Endpoint,
        wall_milliseconds: Callable[[], int],
        facts: Callable[[], Mapping[str, object]],
    ) -> None:
        self._authenticator = context.authenticator
        self._fanout = context.fanout
        self._endpoint = endpoint
        self._wall_milliseconds = wall_milliseconds
        self._facts = facts
        self._clients_max = context.limits.clients_max
        self._run_id = f"{context.rng.getrandbits(160):040x}"
        self._started_at = trio.current_time()
        self._entries: dict[int, _Entry] = {}
        self._number = 0
        context.authenticator.on_change.append(self._users_changed)

    @property
    def has_users(self) -> bool:
        """Whether clients must log in."""
        return self._authenticator.has_users

    def log_in(self, client_id: int, name: str, secret: bytes) -> Access | None:
        """Return the rights of a user; None when the user or the secret is wrong."""
        access = self._authenticator.log_in(name, secret)
        if access is None:
            # The name is not logged: clients may pass the secret there by mistake.
            self._entries[client_id].client.complain(
                "login_failed", "wrong_secret", "unknown user or wrong secret"
            )
        return access

    def _users_changed(self) -> None:
        """Disconnect the clients that lost a right that they use."""
        for entry in list(self._entries.values()):
            entry.client.recheck(entry.session, self._authenticator)

    def next_id(self) -> int:
        """Return a unique number for a new connection."""
        self._number += 1
        return self._number

    def add(self, session: Session, client: LocalClient, peer: str) -> None:
        """Register a client."""
        # Redis names a client on a Unix socket by the socket.
        address = f"{self._endpoint.path}:0" if self._endpoint.path else peer
        self._entries[session.state.client_id] = _Entry(
            session, client, address, trio.current_time()
        )

    def discard(self, client_id: int) -> None:
        """Remove a client whose connection has ended."""
        del self._entries[client_id]

    def clients(self) -> Collection[ClientFacts]:
        """Return the facts of the clients, oldest first."""
        now = trio.current_time()
        local = f"{self._endpoint.path}:0" if self._endpoint.path else str(self._endpoint)
        return [
            ClientFacts(
                client_id=client_id,
                address=entry.address,
                local_address=local,
                age_seconds=now - entry.connected_at,
                state=entry.session.state,
            )
            for client_id, entry in self._entries.items()
        ]

    def disconnect(self, client_id: int) -> None:
        """Disconnect a client, if it is still connected."""
        entry = self._entries.get(client_id)
        if entry is not None:
            entry.client.cut("killed", "another client ended the connection")

    def wall_microseconds(self) -> int:
        """Return the microseconds since 1970, in steps of a millisecond."""
        return self._wall_milliseconds() * 1000

    def facts(self) -> SidecarFacts:
        """Return the facts of the sidecar for INFO."""
        counts = self._fanout.counts()
        return SidecarFacts(
            run_id=self._run_id,
            process_id=os.getpid(),
            tcp_port=self._endpoint.port,
            uptime_in_seconds=int(trio.current_time() - self._started_at),
            connected_clients=len(self._entries),
            maxclients=self._clients_max,
            total_connections_received=self._number,
            pubsub_channels=counts[Space.CHANNELS],
            pubsub_patterns=counts[Space.PATTERNS],
            pubsubshard_channels=counts[Space.SHARDS],
            fanout=self._facts(),
        )
