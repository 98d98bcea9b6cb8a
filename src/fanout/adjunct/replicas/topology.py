"""Changes what discovery tells of a database, and shows it.

Replacing a primary takes two records. The first names no primary: every process that routes lets
go of the old one, and says so when the last transaction on it has ended. When all have, or their
leases are over, the second record names the new one. So at no time do two processes that discovery
reaches write to two primaries.
"""

import math
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import attrs
import trio

from fanout.adjunct.replicas.errors import SwitchTimeout, TopologyRefused, TopologyUnknown
from fanout.adjunct.replicas.record_writer import RecordWriter, unreadable
from fanout.adjunct.replicas.records import DATABASE, ROUTER, DatabaseRecord, RouterRecord
from fanout.config import FleetConfig, TlsFiles
from fanout.errors import ConfigError, RemoteProtocolError
from fanout.runtime.certificates import Contexts
from fanout.runtime.registry import Registry
from fanout.runtime.watch import Watch, open_watch
from fanout.runtime.world import World, real_world

RECHECK_SECONDS = 0.5
"""How often it is looked whether all of discovery can be read again: that is no change."""

SETTLE_SECONDS = 5.0
"""In so long every process has read discovery and said what it has seen: two polls and more."""

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
    settle_seconds: float = SETTLE_SECONDS,
    world: World | None = None,
) -> DatabaseRecord:
    """Make `primary` and `replicas` (HOST:PORT -> weight) the servers of a database.

    With another primary than before this waits, at most `wait_seconds`, until all processes have
    let go of the old one. `force` goes on after that, and does without instances that cannot be
    reached: then only the old primary itself, stopped or read-only, keeps others from writing there.
    Where discovery knows no such database it may have been wiped: `settle_seconds` are then waited
    for processes that do know it to show themselves.

    Raises:
        SwitchTimeout: some process did not let go in time; the topology is as before.
        TopologyRefused: an instance cannot be reached, the version is not `if_version`, or
            somebody else changes the topology now.
        RegistryUnavailable: no discovery instance can be read.
        ConfigError: a name, server or weight is not allowed, or the primary is a replica too.

    """
    new = DatabaseRecord(
        cluster=config.cluster, database=name, version=0, primary=primary, replicas=replicas
    )
    try:
        DATABASE.decode(DATABASE.encode(new))
    except RemoteProtocolError as error:
        raise ConfigError(f"the topology of {name} is not allowed: {error}") from None
    if primary in replicas:
        raise ConfigError(f"{primary} is named twice; name the primary and each replica once")
    world = world or real_world(Contexts(TlsFiles.of(config)))

    async def change(registry: Registry, watch: Watch) -> DatabaseRecord:
        current = _current(watch, name)
        version = current.version if current else 0
        if if_version is not None and if_version != version:
            raise TopologyRefused(f"the topology of {name} has version {version}, not {if_version}")
        writer = RecordWriter(config, world, registry, force=force, based_on=version)
        if current is None or current.primary != primary:
            before = current or attrs.evolve(new, primary="")
            if current is None:
                writer.above(world.wall_milliseconds())  # above all that was there before a wipe
            settle = settle_seconds if current is None else 0.0
            await _hold(
                writer, registry, watch, before, wait_seconds=wait_seconds, settle_seconds=settle
            )
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
        writer = RecordWriter(config, world, registry, force=force, based_on=current.version)
        return await _hold(writer, registry, watch, current, wait_seconds=wait_seconds)

    return await _watching(config, world, change)


async def _hold(
    writer: RecordWriter,
    registry: Registry,
    watch: Watch,
    before: DatabaseRecord,
    *,
    wait_seconds: float,
    settle_seconds: float = 0.0,
) -> DatabaseRecord:
    """Have everybody let go of the primary; what stops that puts it back. Raises SwitchTimeout."""
    name, former = before.database, before.primary or before.former
    # After discovery was wiped processes know more than it does.
    writer.above(max((router.seen[name] for router in _routers(watch, name)), default=0))
    try:
        held = await writer.write(attrs.evolve(before, primary="", former=former))
        await trio.sleep(settle_seconds)
        with trio.move_on_after(wait_seconds) as waited:
            with trio.move_on_after(writer.timeout_seconds if writer.force else math.inf):
                await registry.wait_connected()
            # Only now look who is there: whoever comes later finds that there is no primary.
            await registry.refresh()
            while not _released(watch, held) or (unreadable(registry) and not writer.force):
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


def _released(watch: Watch, held: DatabaseRecord) -> bool:
    """Whether nobody writes to an earlier primary, as far as discovery tells."""
    routers = _routers(watch, held.database)
    return all(router.seen[held.database] >= held.version for router in routers)


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
