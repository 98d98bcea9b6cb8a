"""What the machine of a node's agent asks its shell to do."""

import attrs

from fanout.values.names import SidecarId
from fanout.values.records import Identity, NodeRecord


@attrs.frozen(slots=True)
class OpenGate:
    """Let sidecars publish on the node."""


@attrs.frozen(slots=True)
class CloseGate:
    """Have Redis refuse publishes of sidecars."""


@attrs.frozen(slots=True)
class SetIdentity:
    """Write the identity key on the node, before its record is written to discovery."""

    identity: Identity


@attrs.frozen(slots=True)
class WriteRecord:
    """Write the record to discovery."""

    record: NodeRecord


@attrs.frozen(slots=True)
class CountSidecars:
    """Count the sidecars on this node and on the active `others`, then call `counted`."""

    incarnation: int
    others: tuple[NodeRecord, ...]


@attrs.frozen(slots=True)
class Activated:
    """The node takes publishes now; `missing` sidecars had not subscribed by the deadline."""

    record: NodeRecord
    missing: tuple[SidecarId, ...]
    late: bool  # whether it was activated by the deadline


@attrs.frozen(slots=True)
class PublishEnd:
    """Publish END, the node's last message; repeated for sidecars that subscribe late."""

    incarnation: int


@attrs.frozen(slots=True)
class Left:
    """The goodbye is written: the agent may exit."""

    record: NodeRecord


@attrs.frozen(slots=True)
class Superseded:
    """An older agent with the same node id is alive: this one must exit."""

    rival: NodeRecord


Effect = (
    OpenGate
    | CloseGate
    | SetIdentity
    | WriteRecord
    | CountSidecars
    | Activated
    | PublishEnd
    | Left
    | Superseded
)
