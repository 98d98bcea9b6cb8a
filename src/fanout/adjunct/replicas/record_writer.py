"""Writes what a database consists of: to all discovery instances, and over nobody else's word.

A record goes to the instances one after the other, and only where nobody else has written since it
was read: of two who change a topology at the same time the first instance decides.
"""

from functools import partial

import attrs
import trio

from fanout.adjunct.replicas.errors import TopologyRefused
from fanout.adjunct.replicas.records import DATABASE, DatabaseRecord
from fanout.config import FleetConfig, RedisAddress
from fanout.errors import CommandFailed, LinkLost, RemoteProtocolError
from fanout.runtime.link import Link, use_link
from fanout.runtime.reading import Pipeline
from fanout.runtime.registry import Registry
from fanout.runtime.world import World
from fanout.wire.records import hint_channel
from fanout.wire.replies import Argument


class RecordWriter:
    """Writes the records of one change, each to all instances in their order.

    Raises:
        TopologyRefused: some instance cannot be read, and `force` is not set.

    """

    def __init__(
        self,
        config: FleetConfig,
        world: World,
        registry: Registry,
        *,
        force: bool,
        based_on: int,
    ) -> None:
        if not force and (missing := unreadable(registry)):
            raise TopologyRefused(_missing(missing))
        self._config = config
        self._world = world
        self._based_on = based_on
        self._version = based_on
        self._ours: set[bytes] = set()  # what this change has written
        self.force = force
        self.timeout_seconds = config.timeout_seconds * len(config.discovery)

    def above(self, version: int) -> None:
        """Number the next record above `version`."""
        self._version = max(self._version, version)

    async def write(self, record: DatabaseRecord) -> DatabaseRecord:
        """Write a record under the next version; return it as written. Raises TopologyRefused."""
        self._version += 1
        record = attrs.evolve(record, version=self._version)
        self._ours.add(DATABASE.encode(record))
        missing = []
        for address in self._config.discovery:
            if reason := await self._put(address.primary, record):
                missing.append(f"{address.primary}: {reason}")
                if not self.force:
                    break
        if missing and (not self.force or len(missing) == len(self._config.discovery)):
            raise TopologyRefused(_missing(missing))
        return record

    async def _put(self, address: RedisAddress, record: DatabaseRecord) -> str:
        """Write to one instance; return why it cannot be reached, or nothing."""
        limit = self._config.timeout_seconds
        try:
            with trio.fail_after(limit):
                await use_link(
                    self._world.network,
                    address,
                    partial(self._replace, record),
                    timeout_seconds=limit,
                )
        except (LinkLost, CommandFailed) as error:
            return str(error)
        except trio.TooSlowError:
            return f"no answer within {limit:g} seconds"
        return ""

    async def _replace(self, record: DatabaseRecord, link: Link) -> None:
        """Write a record unless somebody else has written. Raises TopologyRefused."""
        key = DATABASE.key(record.cluster, record.id)
        _, raw = await Pipeline(link, [("WATCH", key), ("GET", key)]).answers()
        if raw is None or raw in self._ours or _version_of(raw) <= self._based_on:
            commands: list[tuple[Argument, ...]] = [
                ("MULTI",),
                ("SET", key, DATABASE.encode(record)),
                ("SADD", DATABASE.index_key(record.cluster), record.id),
                ("PUBLISH", hint_channel(record.cluster), ""),
                ("EXEC",),
            ]
            if (await Pipeline(link, commands).answers())[-1] is not None:
                return
        raise TopologyRefused(
            f"somebody else has changed the topology of {record.id} meanwhile; look at it again"
        )


def _version_of(raw: bytes) -> int:
    try:
        return int(DATABASE.decode(raw).version)
    except RemoteProtocolError:
        return 0  # what nobody can read may be replaced


def unreadable(registry: Registry) -> list[str]:
    """Return the instances that cannot be read now."""
    return [each.instance for each in registry.statistics() if not each.readable]


def _missing(instances: list[str]) -> str:
    return (
        f"discovery cannot be reached in whole ({'; '.join(instances)}), so processes that only "
        "reach the rest would not follow; mend it, or give --force if they cannot write to the "
        "old primary anyway"
    )
