"""Reads the records of a fleet from one discovery instance."""

from collections.abc import Sequence
from typing import Any

import attrs
import trio

from fanout.errors import CommandFailed, LinkLost, RemoteProtocolError
from fanout.runtime.redis.link import Link
from fanout.wire.records import NODE, SIDECAR, RecordKind
from fanout.wire.redis.client import Argument, ReplyError, pack

BATCH_MAX = 512
"""The most keys fetched with one command."""


class Pipeline:
    """Commands sent together. They are submitted at construction, so pipelines keep their order."""

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
        """Wait for all answers and return them. Raises the first LinkLost or CommandFailed."""
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
    """An id in the index of its kind, and the record, if it exists."""

    kind: RecordKind[Any]
    member: bytes
    key: bytes
    raw: bytes | None

    def decode(self) -> Any:
        """Return the decoded record. Raises RemoteProtocolError."""
        record = self.kind.decode(self.raw or b"")
        if record.id.encode() != self.member:
            raise RemoteProtocolError(f"the record belongs to {record.id}")
        return record


async def read_indexed(
    link: Link,
    cluster: str,
    kinds: Sequence[RecordKind[Any]] = (NODE, SIDECAR),
    *,
    is_replica: bool = False,
) -> list[Indexed]:
    """Return the entries of a fleet's indexes, with the record of each.

    Raises:
        LinkLost: the connection ended; or the Redis is expected to be a replica and is none, or
            has lost its primary, so that its data is stale.
        CommandFailed: Redis refused a command.

    """
    asked: list[tuple[Argument, ...]] = [("SMEMBERS", kind.index_key(cluster)) for kind in kinds]
    if is_replica:
        asked.append(("ROLE",))
    answers = await Pipeline(link, asked).answers()
    if is_replica and (answers[-1][0] != b"slave" or answers[-1][3] != b"connected"):
        raise LinkLost("not a replica connected to its primary")
    keys = [
        (kind, member, kind.key(cluster, "").encode() + member)
        for kind, members in zip(kinds, answers, strict=False)  # ROLE has no kind
        for member in sorted(members)
    ]
    commands = [
        ("MGET", *(key for _, _, key in keys[start : start + BATCH_MAX]))
        for start in range(0, len(keys), BATCH_MAX)
    ]
    values = [raw for chunk in await Pipeline(link, commands).answers() for raw in chunk]
    return [Indexed(*key, raw) for key, raw in zip(keys, values, strict=True)]
