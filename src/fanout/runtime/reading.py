"""Reads what one discovery instance holds of a fleet."""

from collections.abc import Sequence
from typing import Any

import attrs
import trio

from fanout.errors import CommandFailed, LinkLost
from fanout.runtime.link import Link
from fanout.wire import records
from fanout.wire.replies import Argument, ReplyError, pack

BATCH_MAX = 512
"""Keys fetched with one command."""


class Pipeline:
    """Commands that leave together; submitted at once, so in the order they were made."""

    def __init__(self, link: Link, commands: Sequence[tuple[Argument, ...]]) -> None:
        self._answers: list[Any] = []
        self._count = len(commands)
        self._done = trio.Event()
        for command in commands:
            link.submit(pack(*command), self._take)
        link.flush()

    def _take(self, answer: Any) -> None:
        self._answers.append(answer)
        if len(self._answers) == self._count:
            self._done.set()

    async def answers(self) -> list[Any]:
        """Wait for all answers. Raises LinkLost or CommandFailed for the first that failed."""
        if self._count:
            await self._done.wait()
        for answer in self._answers:
            if isinstance(answer, LinkLost):
                raise answer
            if isinstance(answer, ReplyError):
                raise CommandFailed(str(answer))
        return self._answers


@attrs.frozen(slots=True)
class Indexed:
    """An id in the index of its kind, `nodes` or `sidecars`, and its record, if there is one."""

    kind: str
    member: bytes
    key: bytes
    raw: bytes | None


async def read_indexed(link: Link, cluster: str, *, is_replica: bool = False) -> list[Indexed]:
    """Read both indexes of a fleet and every record they name.

    Raises:
        LinkLost: the connection ended, or what should be a replica is none, or has lost its
            primary: it would go on telling what was true then.
        CommandFailed: Redis refused a command.

    """
    indexes = [("SMEMBERS", records.index_key(cluster, kind)) for kind in ("nodes", "sidecars")]
    asked = [*indexes, ("ROLE",)] if is_replica else indexes
    nodes, sidecars, *role = await Pipeline(link, asked).answers()
    if role and (role[0][0] != b"slave" or role[0][3] != b"connected"):
        raise LinkLost("not a replica in touch with its primary")
    node_prefix = records.node_key(cluster, "").encode()
    sidecar_prefix = records.sidecar_key(cluster, "").encode()
    keys = [("nodes", member, node_prefix + member) for member in sorted(nodes)]
    keys += [("sidecars", member, sidecar_prefix + member) for member in sorted(sidecars)]
    commands = [
        ("MGET", *(key for _, _, key in keys[start : start + BATCH_MAX]))
        for start in range(0, len(keys), BATCH_MAX)
    ]
    values = [raw for chunk in await Pipeline(link, commands).answers() for raw in chunk]
    return [Indexed(*key, raw) for key, raw in zip(keys, values, strict=True)]
