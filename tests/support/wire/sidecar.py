"""A sidecar as sessions see it, for tests without one."""

from collections.abc import Collection

import attrs

from fanout.core.access import Access, Users, digest
from fanout.values.requests import Action, Ask, Exec, Publish, Reply
from fanout.wire.limits import ClientLimits
from fanout.wire.resp.client_state import ClientFacts, SidecarFacts
from fanout.wire.resp.session import Session
from tests.support.wire.limits import default_limits

USERS = Users.from_mapping(
    {
        "users": {
            "u": {
                "secrets": [digest(b"s")],
                "publish": ["p*"],
                "subscribe": ["s*"],
                "psubscribe": ["s*"],
            },
            "default": {"secrets": [digest(b"d")], "publish": ["*"]},
        }
    }
)


@attrs.define(eq=False)
class LoneSidecar:
    """A sidecar without a fleet that records the requests it gets."""

    sessions: list[Session] = attrs.field(factory=list)
    disconnected: list[int] = attrs.field(factory=list)

    users: Users | None = None
    limits: ClientLimits = attrs.field(factory=default_limits)

    @property
    def has_users(self) -> bool:
        """Whether clients must log in."""
        return self.users is not None

    def log_in(self, client_id: int, name: str, secret: bytes) -> Access | None:
        """Return what a user may do."""
        del client_id
        return self.users.log_in(name, secret) if self.users is not None else None

    def facts(self) -> SidecarFacts:
        """Return made-up facts."""
        return SidecarFacts(connected_clients=len(self.sessions), fanout={"nodes_active": 3})

    def clients(self) -> Collection[ClientFacts]:
        """Return the sessions as clients at addresses made of their numbers."""
        return [
            ClientFacts(
                client_id=session.state.client_id,
                address=f"127.0.0.1:{session.state.client_id}",
                local_address="127.0.0.1:6380",
                age_seconds=7.2,
                state=session.state,
            )
            for session in self.sessions
        ]

    def disconnect(self, client_id: int) -> None:
        """Record a client to disconnect."""
        self.disconnected.append(client_id)

    def wall_microseconds(self) -> int:
        """Return a time of day."""
        return 1_700_000_000_000_123

    def join(self, number: int) -> Session:
        """Add a client."""
        session = Session(number, self, self.limits)
        self.sessions.append(session)
        return session


def said(action: Action) -> bytes:
    """Return the reply of an action in a fleet without subscriptions."""
    match action:
        case Publish():
            return b":0\r\n"
        case Ask():
            return action.reply({})
        case Exec():
            return action.header + b"".join(map(said, action.actions))
    data = action.data if isinstance(action, Reply) else action.reply
    return data if isinstance(data, bytes) else data()
