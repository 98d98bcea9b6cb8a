"""The state of one RESP client, and the facts that it can ask of the sidecar."""

from collections.abc import Collection, Mapping
from typing import Protocol

import attrs

from fanout.values.names import Kind, Space
from fanout.values.requests import Encoding
from fanout.wire.limits import Access, ClientLimits
from fanout.wire.resp import replies


@attrs.frozen(slots=True, kw_only=True)
class ClientFacts:
    """One connected client as CLIENT LIST shows it."""

    client_id: int
    address: str
    local_address: str
    age_seconds: float
    state: "ClientState"


@attrs.frozen(slots=True, kw_only=True)
class SidecarFacts:
    """The values in INFO, with the field names of Redis."""

    run_id: str = "0" * 40
    process_id: int = 0
    tcp_port: int = 0
    uptime_in_seconds: int = 0
    connected_clients: int = 0
    maxclients: int = 0
    total_connections_received: int = 0
    pubsub_channels: int = 0
    pubsub_patterns: int = 0
    pubsubshard_channels: int = 0
    fanout: Mapping[str, object] = attrs.field(factory=dict)


class Sidecar(Protocol):
    """What a session may ask of the sidecar it belongs to."""

    @property
    def has_users(self) -> bool:
        """Whether clients must log in."""

    def log_in(self, client_id: int, name: str, secret: bytes) -> Access | None:
        """Return the rights of a user; None if the secret is wrong."""

    def facts(self) -> SidecarFacts:
        """Return the values for INFO."""

    def clients(self) -> Collection[ClientFacts]:
        """Return the clients of this door, oldest first."""

    def disconnect(self, client_id: int) -> None:
        """Close the connection of a client, if it is still open."""

    def wall_microseconds(self) -> int:
        """Return the time of day since 1970."""


@attrs.define(eq=False, slots=True)
class ClientState:
    """The state of one client as of the requests handled so far."""

    client_id: int
    sidecar: Sidecar
    limits: ClientLimits
    resp3: bool = False
    name: bytes = b""
    access: Access | None = None
    """The rights of the client once it has logged in; None without users: everything."""
    last_command: bytes = b"NULL"
    held: dict[Space, dict[bytes, None]] = attrs.field(
        factory=lambda: {space: {} for space in Space}
    )
    queue: list[list[bytes]] | None = None  # requests since MULTI
    queue_bytes: int = 0
    queue_failed: bool = False
    reply_off: bool = False
    reply_skip: bool = False  # for the current request
    reply_skip_next: bool = False

    @property
    def encoding(self) -> Encoding:
        """The encoding of deliveries to this client."""
        return Encoding.RESP3 if self.resp3 else Encoding.RESP2

    @property
    def locked(self) -> bool:
        """Whether the client must log in before anything else."""
        return self.access is None and self.sidecar.has_users

    @property
    def user(self) -> str:
        """Return the name of the client's user."""
        return self.access.user if self.access is not None else "default"

    @property
    def subscribed(self) -> bool:
        """Whether the client has any subscription."""
        return any(self.held.values())

    @property
    def silent(self) -> bool:
        """Whether the current request gets no reply."""
        return self.reply_off or self.reply_skip

    @property
    def null(self) -> bytes:
        """The null of this client's protocol."""
        return replies.NULL3 if self.resp3 else replies.NULL2

    def verbatim(self, text: bytes) -> bytes:
        """Encode text for people."""
        return replies.verbatim(text) if self.resp3 else replies.bulk(text)

    def count(self, space: Space) -> int:
        """Return the number of subscriptions as in a confirmation of Redis: shard channels apart."""
        if space is Space.SHARDS:
            return len(self.held[space])
        return len(self.held[Space.CHANNELS]) + len(self.held[Space.PATTERNS])

    def hold(self, space: Space, name: bytes) -> None:
        """Add a subscription that the client did not have."""
        self.held[space][name] = None
        if space is Space.PATTERNS:
            self.limits.patterns.add(name)

    def drop(self, space: Space, name: bytes) -> None:
        """Remove a subscription that the client had."""
        del self.held[space][name]
        if space is Space.PATTERNS:
            self.limits.patterns.discard(name)

    def drop_all(self) -> None:
        """Remove every subscription."""
        for space, names in self.held.items():
            for name in list(names):
                self.drop(space, name)

    def forget_transaction(self) -> None:
        """Leave MULTI."""
        self.queue, self.queue_bytes, self.queue_failed = None, 0, False


UNANSWERED = "unanswered"
"""The tag of a publish whose reply is turned off."""

KINDS = {Space.CHANNELS: Kind.CHANNEL, Space.PATTERNS: Kind.PATTERN, Space.SHARDS: Kind.CHANNEL}
"""The kind of subscription on the nodes for each space."""
