"""What can be wrong with a database, each with a stable code."""

from typing import ClassVar

from fanout.errors import FanoutError


class DatabaseError(FanoutError):
    """Base of these errors. `code` never changes; the message is for a person."""

    code: ClassVar[str]


class DatabaseUnknown(DatabaseError):  # noqa: N818 - a fact
    """This process was given no URL for a database of that name."""

    code = "DATABASE_UNKNOWN"


class TopologyUnknown(DatabaseError):  # noqa: N818 - a fact
    """Discovery has told of no primary and replicas of the database so far."""

    code = "TOPOLOGY_UNKNOWN"


class PrimaryHeld(DatabaseError):  # noqa: N818 - a state
    """The primary is being replaced, and nobody may write until every process has let go of it."""

    code = "PRIMARY_HELD"


class LeaseLost(DatabaseError):  # noqa: N818 - a state
    """Discovery has not heard of this process for so long that others may write elsewhere."""

    code = "LEASE_LOST"


class DatabaseDown(DatabaseError):  # noqa: N818 - a fact
    """A primary or replica cannot be connected to."""

    code = "DATABASE_DOWN"


class PositionInvalid(DatabaseError):  # noqa: N818 - a fact
    """A text is no position of MariaDB or PostgreSQL."""

    code = "POSITION_INVALID"


class ReadOnly(DatabaseError):  # noqa: N818 - an answer
    """A session that only reads was told to write."""

    code = "READ_ONLY"


class TopologyRefused(DatabaseError):  # noqa: N818 - an answer
    """The topology was not changed: somebody else changed it, or an instance cannot be reached."""

    code = "TOPOLOGY_REFUSED"


class SwitchTimeout(DatabaseError):  # noqa: N818 - a fact
    """Some process did not let go of the old primary in time; it is the primary again."""

    code = "SWITCH_TIMEOUT"
