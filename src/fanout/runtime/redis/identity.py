"""Checks that the Redis at an address is the node in discovery."""

import trio

from fanout.core.in_flight import Answer
from fanout.errors import LinkLost, RemoteProtocolError
from fanout.runtime.redis.link import Link
from fanout.values.names import IDENTITY_KEY
from fanout.values.records import NodeRecord
from fanout.wire.records import decode_identity


class WrongIdentity(LinkLost):
    """The Redis at a node's address is not that node."""


class MissingIdentity(WrongIdentity):
    """The Redis at a node's address has no identity: it was flushed, or is not a node."""


async def identify(link: Link, record: NodeRecord, timeout_seconds: float) -> None:
    """Check that the Redis behind `link` is the node of `record`, same incarnation and run.

    Raises:
        WrongIdentity: it is another node, or another incarnation.
        LinkLost: the connection ended, or no answer came in time.
        CommandFailed: Redis refused the command.

    """
    with trio.move_on_after(timeout_seconds) as scope:
        raw = await link.call("GET", IDENTITY_KEY)
        info = await link.call("INFO", "server")
    if scope.cancelled_caught:
        raise LinkLost("no answer from the node")
    check_identity(raw, record)
    if f"run_id:{record.run_id}".encode() not in info:
        raise WrongIdentity(f"the Redis at {record.endpoint} restarted; waiting for its agent")


async def is_primary(link: Link, timeout_seconds: float) -> bool:
    """Return whether the Redis behind `link` is a primary.

    Raises:
        LinkLost: the connection ended, or no answer came in time.
        CommandFailed: Redis refused the command.

    """
    with trio.move_on_after(timeout_seconds):
        return b"role:master" in await link.call("INFO", "replication")
    raise LinkLost("no answer from the node")


def check_identity(raw: Answer, record: NodeRecord) -> None:
    """Check the value of a node's identity key. Raises MissingIdentity, WrongIdentity."""
    if raw is None:
        raise MissingIdentity(f"the Redis at {record.endpoint} has no identity key")
    if not isinstance(raw, bytes):
        raise WrongIdentity(
            f"the Redis at {record.endpoint} does not show its identity: {raw!r:.64}"
        )
    try:
        found = decode_identity(raw)
    except RemoteProtocolError as error:
        raise WrongIdentity(f"the Redis at {record.endpoint}: {error}") from error
    same = (record.cluster, record.node, record.incarnation, record.run_id)
    if (found.cluster, found.node, found.incarnation, found.run_id) != same:
        raise WrongIdentity(
            f"the Redis at {record.endpoint} is {found.node} of cluster {found.cluster}, "
            f"incarnation {found.incarnation}, not {record.node} incarnation {record.incarnation}"
        )
