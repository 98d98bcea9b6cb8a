"""How the two doors differ, as far as a local client is concerned."""

from collections.abc import Callable
from typing import Any, Protocol

import attrs

from fanout.core.access import Access
from fanout.values.names import NodeId
from fanout.values.requests import Outcome, Subscribe


@attrs.frozen(slots=True)
class Door:
    """How one kind of client is answered."""

    name: str
    outcome: Callable[[Any, Outcome], bytes]  # (tag of a publish, what became of it) -> reply
    farewell: Callable[[str, str], bytes]  # (code, reason) -> last bytes before the close
    confirmed: Callable[[Subscribe, tuple[NodeId, ...]], bytes] = lambda action, _: action.reply
    """(subscribe, active nodes that are not heard) -> reply"""


class Authorized(Protocol):
    """A door's session, as far as rights go."""

    @property
    def access(self) -> Any:
        """What the client may do; None before it has logged in, and where nobody must."""

    def may_keep(self, access: Access) -> bool:
        """Give the client other rights; return whether they allow what it is subscribed to."""
