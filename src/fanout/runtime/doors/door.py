"""The differences between the RESP door and the websocket door, as a local client sees them."""

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
    """The replies of one door."""

    name: str
    outcome: Callable[[Any, Outcome], bytes]  # (tag of a publish, outcome) -> reply
    farewell: Callable[[str, str], bytes]  # (code, reason) -> last bytes of a disconnect
    confirmed: Callable[[Subscribe, tuple[NodeId, ...]], bytes] = lambda action, _: action.reply
    """(subscribe request, active nodes not heard) -> reply"""


@attrs.frozen(eq=False, kw_only=True)
class DoorContext:
    """The objects that a door passes to the connection of each client."""

    fanout: Fanout
    clients: Clients  # of this door
    authenticator: Authenticator
    limits: Limits
    client_limits: ClientLimits
    sidecar: SidecarId
    rng: random.Random


class Authorized(Protocol):
    """The rights of a session, at either door."""

    @property
    def access(self) -> Any:
        """The rights of the client; None before login, and without users."""

    def may_keep(self, access: Access) -> bool:
        """Set new rights; return whether they allow the present subscriptions."""
