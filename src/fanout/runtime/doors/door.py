"""How the two doors differ, as far as a local client is concerned."""

import random
from collections.abc import Callable
from typing import Any, Protocol

import attrs

from fanout.config import Limits
from fanout.core.access import Access
from fanout.runtime.sidecar.authenticator import Authenticator
from fanout.runtime.sidecar.clients import Clients
from fanout.runtime.sidecar.fanout import Fanout
from fanout.values.names import NodeId, SidecarId
from fanout.values.requests import Outcome, Subscribe
from fanout.wire.limits import ClientLimits


@attrs.frozen(slots=True)
class Door:
    """How one kind of client is answered."""

    name: str
    outcome: Callable[[Any, Outcome], bytes]  # (tag of a publish, what became of it) -> reply
    farewell: Callable[[str, str], bytes]  # (code, reason) -> last bytes before the close
    confirmed: Callable[[Subscribe, tuple[NodeId, ...]], bytes] = lambda action, _: action.reply
    """(subscribe, active nodes that are not heard) -> reply"""


@attrs.frozen(eq=False, kw_only=True)
class DoorContext:
    """What a door gives to the connection of each client."""

    fanout: Fanout
    clients: Clients  # of this door
    authenticator: Authenticator
    limits: Limits
    client_limits: ClientLimits
    sidecar: SidecarId
    rng: random.Random


class Authorized(Protocol):
    """A door's session, as far as rights go."""

    @property
    def access(self) -> Any:
        """What the client may do; None before it has logged in, and where nobody must."""

    def may_keep(self, access: Access) -> bool:
        """Give the client other rights; return whether they allow what it is subscribed to."""
