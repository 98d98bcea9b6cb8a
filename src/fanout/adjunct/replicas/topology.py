"""Changes what discovery tells of a database, and shows it.

Replacing a primary takes two records. The first names no primary: every process that routes lets
go of the old one, and says so when the last transaction on it has ended. When all have, or their
leases are over, the second record names the new one. So at no time do two processes that discovery
reaches write to two primaries.

A record is written to the instances one after the other, and only where nobody else has written
since it was read: of two who change a topology at the same time the first instance decides.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TypeVar

import attrs
import trio

from fanout.adjunct.replicas.errors import SwitchTimeout, TopologyRefused, TopologyUnknown
from fanout.adjunct.replicas.records import DATABASE, ROUTER, DatabaseRecord, RouterRecord
from fanout.config import FleetConfig, RedisAddress, TlsFiles
from fanout.errors import CommandFailed, LinkLost, RemoteProtocolError
from fanout.runtime.link import Link, use_link
from fanout.runtime.reading import Pipeline
from fanout.runtime.registry import Registry
from fanout.runtime.tls import Contexts
from fanout.runtime.watch import Watch, open_watch
from fanout.runtime.world import World, real_world
from fanout.wire.records import hint_channel
from fanout.wire.replies import Argument

RECHECK_SECONDS = 0.5
"""How often it is looked whether all of discovery can be read again: that is no change."""

_T = TypeVar("_T")


@attrs.frozen(kw_only=True)
class DatabaseReport:
    """What discovery tells of a database."""

    database: str
    version: int
    primary: str  # empty while it is being replaced
    former: str  # the primary before, while there is none
    replicas: Mapping[str, int]  # HOST:PORT -> weight
    routers: Mapping[str, int]  # process that uses it -> version it has seen; 0: not yet any


async def read_topology(
    config: FleetConfig, name: str, *, world: World | None = None
) -> DatabaseReport:
    """Read what discovery tells of a database.

    Raises:
        TopologyUnknown: discovery has no such database.
        RegistryUnavailable: no discovery instance can be read.

    """

    async def read(_registry: Registry, watch: Watch) -> DatabaseReport:
        record = _known(watch, name)
        return DatabaseReport(
            database=name,
            version=record.version,
            primary=record.primary,
            former=record.former,
            replicas=record.replicas,
            routers={router.id: router.seen[name] for router in _routers(watch, name)},
        )

    return await _watching(config, world, read)


async def set_topology(
    config: FleetConfig,
    name: str,
    *,
    primary: str,
    replicas: Mapping[str, int],
    wait_seconds: float,
    if_version: int | None = None,
    force: bool = False,
    world: World | None = None,
) -> DatabaseRecord:
    """Make `primary` and `replicas` (HOST:PORT -> weight) the servers of a database.

    With another primary than before this waits, at most `wait_seconds`, until all processes have
    let go of the old one. `force` goes on after that, and does without instances that cannot be
    reached: then only the old primary itself, stopped or read-only, keeps others from writing there.

    Raises:
        SwitchTimeout: some process did not let go in time; the topology is as before.
        TopologyRefused: an instance cannot be reached, the version is not `if_version`, or
            somebody else changes the topology now.
        RegistryUnavailable: no discovery instance can be read.

    """
    new = DatabaseRecord(
        cluster=config.cluster, database=name, version=0, primary=primary, replicas=replicas
    )
    world = world or real_world(Contexts(TlsFiles.of(config)))

    async def change(registry: Registry, watch: Watch) -> DatabaseRecord:
        current = _current(watch, name)
        version = current.version if current else 0
        if if_version is not None and if_version != version:
            raise TopologyRefused(f"the topology of {name} has version {version}, not {if_version}")
        writer = _Writer(config, world, registry, force=force, based_on=version)
        if current is None or current.primary != primary:
            before = current or attrs.evolve(new, primary="")
            await _hold(writer, registry, watch, before, wait_seconds=wait_seconds)
        return await writer.write(new)

    return await _watching(config, world, change)


async def hold_topology(
    config: FleetConfig,
    name: str,
    *,
    wait_seconds: float,
    force: bool = False,
    world: World | None = None,
) -> DatabaseRecord:
    """Take the primary of a database away, until `set_topology` names one; reads go on.

    In between the new primary can get the last of what was written to the old one. Waits, forces
    and raises as `set_topology`, and:

    Raises:
        TopologyUnknown: discovery has no such database.

    """
    world = world or real_world(Contexts(TlsFiles.of(config)))

    async def change(registry: Registry, watch: Watch) -> DatabaseRecord:
        current = _known(watch, name)
        writer = _Writer(config, world, registry, force=force, based_on=current.version)
        return await _hold(writer, registry, watch, current, wait_seconds=wait_seconds)

    return await _watching(config, world, change)


async def _hold(
    writer: "_Writer",
    registry: Registry,
    watch: Watch,
    before: DatabaseRecord,
    *,
    wait_seconds: float,
) -> DatabaseRecord:
    """Have everybody let go of the primary; what stops that puts it back. Raises SwitchTimeout."""
    name, former = before.database, before.primary or before.former
    # After discovery was wiped processes know more than it does.
    writer.above(max((router.seen[name] for router in _routers(watch, name)), default=0))
    try:
        held = await writer.write(attrs.evolve(before, primary="", former=former))
        with trio.move_on_after(wait_seconds) as waited:
            await registry.wait_connected()
            # Only now look who is there: whoever comes later finds that there is no primary.
            await registry.refresh()
            while not _released(registry, watch, held):
                with trio.move_on_after(RECHECK_SECONDS):
                    await watch.changed.wait()
        if waited.cancelled_caught and not writer.force:
            late = [r.id for r in _routers(watch, name) if r.seen[name] < held.version]
            raise SwitchTimeout(
                f"not everybody has let go of the primary of {name} within {wait_seconds:g} "
                f"seconds: {', '.join(late) or 'discovery cannot be read'}; "
                f"{before.primary or 'none until one is set'} is the primary again"
            )
    except BaseException:
        with trio.move_on_after(writer.timeout_seconds, shield=True):
            await writer.write(before)
        raise
    return held


def _released(registry: Registry, watch: Watch, held: DatabaseRecord) -> bool:
    """Whether nobody writes to an earlier primary, as far as all of discovery can be read."""
    return not _unreadable(registry) and all(
        router.seen[held.database] >= held.version for router in _routers(watch, held.database)
    )


def _unreadable(registry: Registry) -> list[str]:
    return [each.instance for each in registry.statistics() if not each.readable]


class _Writer:
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
        if not force and (unreadable := _unreadable(registry)):
            raise TopologyRefused(_missing(unreadable))
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


async def _watching(
    config: FleetConfig,
    world: World | None,
    body: Callable[[Registry, Watch], Awaitable[_T]],
) -> _T:
    """Run `body` with what discovery tells; a single error comes as it is, not in a group."""
    try:
        async with open_watch(config, (DATABASE, ROUTER), world=world) as (registry, watch):
            return await body(registry, watch)
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            (error,) = error.exceptions
        raise error from None


def _current(watch: Watch, name: str) -> DatabaseRecord | None:
    found: DatabaseRecord | None = watch.members(DATABASE).get(name)
    return found


def _known(watch: Watch, name: str) -> DatabaseRecord:
    if (record := _current(watch, name)) is not None:
        return record
    known = ", ".join(sorted(watch.members(DATABASE))) or "none"
    raise TopologyUnknown(f"discovery knows no database {name}; known: {known}")


def _routers(watch: Watch, name: str) -> list[RouterRecord]:
    """Return the present processes that use a database."""
    return [router for router in watch.members(ROUTER).values() if name in router.seen]


def _missing(instances: list[str]) -> str:
    return (
        f"discovery cannot be reached in whole ({'; '.join(instances)}), so processes that only "
        "reach the rest would not follow; mend it, or give --force if they cannot write to the "
        "old primary anyway"
    )
