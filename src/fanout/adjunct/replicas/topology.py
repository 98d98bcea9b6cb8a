"""Changes what discovery tells of a database, and shows it.

Replacing a primary takes two records. The first names no primary: every process that routes lets
go of the old one, and says so when the last transaction on it has ended. When all have, or their
leases are over, the second record names the new one. So at no time do two processes that discovery
reaches write to two primaries.

A record goes to the discovery instances one after the other, and only where nobody else has written
since it was read: of two who change a topology at the same time the first instance decides.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial

import attrs
import trio

from fanout.adjunct.replicas.errors import SwitchTimeout, TopologyRefused, TopologyUnknown
from fanout.adjunct.replicas.records import DATABASE, ROUTER, DatabaseRecord
from fanout.config import FleetConfig, RedisAddress, mask
from fanout.errors import CommandFailed, ConfigError, LinkLost, RemoteProtocolError
from fanout.runtime.link import Link, use_link
from fanout.runtime.reading import Pipeline
from fanout.runtime.registry import Registry
from fanout.runtime.watch import Watch, open_watch
from fanout.runtime.world import World, fleet_world
from fanout.wire.records import hint_channel
from fanout.wire.replies import Argument

RECHECK_SECONDS = 0.5
"""How often it is looked whether all of discovery can be read again: that is no change."""

SETTLE_SECONDS = 5.0
"""In so long every process has read discovery and said what it has seen: two polls and more."""


async def read_topology(
    config: FleetConfig, name: str, *, world: World | None = None
) -> tuple[DatabaseRecord, dict[str, int]]:
    """Read what discovery tells of a database.

    Returns its record, and which version each process that uses it has seen; 0: not yet any.

    Raises:
        TopologyUnknown: discovery has no such database.
        RegistryUnavailable: no discovery instance can be read.

    """
    async with open_watch(config, (DATABASE, ROUTER), world=world) as (_, watch):
        return _known(watch, name), _routers(watch, name)


async def set_topology(
    config: FleetConfig,
    name: str,
    *,
    primary: str,
    replicas: Mapping[str, int],
    wait_seconds: float,
    force: bool = False,
    settle_seconds: float = SETTLE_SECONDS,
    world: World | None = None,
) -> DatabaseRecord:
    """Make `primary` and `replicas` (HOST:PORT -> weight 0 to 1000) the servers of a database.

    With another primary than before this waits, at most `wait_seconds`, until all processes have
    let go of the old one. `force` goes on after that: then only the old primary itself, stopped or
    read-only, keeps others from writing there.
    Where discovery knows no such database it may have been wiped: `settle_seconds` are then waited
    for processes that do know it to show themselves.

    Raises:
        SwitchTimeout: some process did not let go in time; the topology is as before.
        TopologyRefused: an instance cannot be reached, or somebody else changes the topology now.
        RegistryUnavailable: no discovery instance can be read.
        ConfigError: a name, server or weight is not allowed, or the primary is a replica too.

    """
    new = DatabaseRecord(
        cluster=config.cluster, database=name, version=0, primary=primary, replicas=replicas
    )
    try:
        new = DATABASE.decode(DATABASE.encode(new))  # with each server in its one spelling
    except RemoteProtocolError as error:
        why = str(error).removeprefix("field ").replace(" of a record", "", 1)
        raise ConfigError(f"the topology of {mask(name)} is not allowed: {why}") from None
    if not new.primary:
        raise ConfigError("primary: missing; give HOST:PORT")
    if new.primary in new.replicas:
        raise ConfigError(f"{new.primary} is named twice; name the primary and each replica once")
    async with _open_change(config, name, world) as change:
        before = change.before or attrs.evolve(new, primary="")
        if before.primary != new.primary:
            settle = 0.0 if change.before else settle_seconds
            await change.hold(before, wait_seconds, force=force, settle_seconds=settle)
        return await change.write(new)


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
    async with _open_change(config, name, world) as change:
        return await change.hold(_known(change.watch, name), wait_seconds, force=force)


@attrs.define(kw_only=True)
class _Change:
    """One change of a database's topology: records that follow each other."""

    config: FleetConfig
    world: World
    registry: Registry
    watch: Watch
    name: str
    before: DatabaseRecord | None  # what it is based on
    _version: int  # of what was written last
    _ours: set[bytes] = attrs.field(factory=set)  # what this change has written

    async def hold(
        self,
        before: DatabaseRecord,
        wait_seconds: float,
        *,
        force: bool,
        settle_seconds: float = 0.0,
    ) -> DatabaseRecord:
        """Have everybody let go of the primary; what stops that puts it back.

        Raises SwitchTimeout or TopologyRefused.
        """
        # After discovery was wiped processes know more than it does.
        self._version = max(self._version, *_routers(self.watch, self.name).values(), 0)
        former = before.primary or before.former
        try:
            held = await self.write(attrs.evolve(before, primary="", former=former))
            await trio.sleep(settle_seconds)
            with trio.move_on_after(wait_seconds) as waited:
                await self.registry.wait_connected()
                # Only now look who is there: whoever comes later finds that there is no primary.
                await self.registry.refresh()
                while self._late(held) or _unreadable(self.registry):
                    with trio.move_on_after(RECHECK_SECONDS):
                        await self.watch.changed.wait()
            if waited.cancelled_caught and not force:
                late = ", ".join(self._late(held)) or "discovery cannot be read"
                raise SwitchTimeout(
                    f"not everybody has let go of the primary of {self.name} within "
                    f"{wait_seconds:g} seconds: {late}; "
                    f"{before.primary or 'none until one is set'} is the primary again"
                )
        except BaseException:
            limit = self.config.timeout_seconds * len(self.config.discovery)
            with trio.move_on_after(limit, shield=True):
                await self.write(before)
            raise
        return held

    def _late(self, held: DatabaseRecord) -> list[str]:
        """Return who may write to an earlier primary, as far as discovery tells."""
        routers = _routers(self.watch, self.name).items()
        return [router for router, seen in routers if seen < held.version]

    async def write(self, record: DatabaseRecord) -> DatabaseRecord:
        """Write a record under the next version; return it as written. Raises TopologyRefused."""
        self._version += 1
        record = attrs.evolve(record, version=self._version)
        self._ours.add(DATABASE.encode(record))
        failures = [await self._put(each.primary, record) for each in self.config.discovery]
        if missing := "; ".join(filter(None, failures)):
            raise _not_whole(missing)
        return record

    async def _put(self, address: RedisAddress, record: DatabaseRecord) -> str:
        """Write to one instance; return why it cannot be reached, or nothing."""
        limit, replace = self.config.timeout_seconds, partial(self._replace, record)
        try:
            with trio.fail_after(limit):
                await use_link(self.world.network, address, replace, timeout_seconds=limit)
        except (LinkLost, CommandFailed) as error:
            return f"{address}: {error}"
        except trio.TooSlowError:
            return f"{address}: no answer within {limit:g} seconds"
        return ""

    async def _replace(self, record: DatabaseRecord, link: Link) -> None:
        """Write a record unless somebody else has written. Raises TopologyRefused."""
        key = DATABASE.key(record.cluster, record.id)
        _, raw = await Pipeline(link, [("WATCH", key), ("GET", key)]).answers()
        if raw is None or raw in self._ours or self._is_based_on(raw):
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

    def _is_based_on(self, raw: bytes) -> bool:
        """Whether a record is no newer than what this change began with, or cannot be read."""
        try:
            version: int = DATABASE.decode(raw).version
        except RemoteProtocolError:
            return True
        return version <= (self.before.version if self.before else 0)


@asynccontextmanager
async def _open_change(
    config: FleetConfig, name: str, world: World | None
) -> AsyncIterator[_Change]:
    """Read discovery. Raises TopologyRefused where not all of it can be read."""
    world = world or fleet_world(config)
    async with open_watch(config, (DATABASE, ROUTER), world=world) as (registry, watch):
        if missing := _unreadable(registry):
            raise _not_whole("; ".join(missing))
        before = watch.members(DATABASE).get(name)
        yield _Change(
            config=config,
            world=world,
            registry=registry,
            watch=watch,
            name=name,
            before=before,
            # Without a record, above all that was there before a wipe.
            version=before.version if before else world.wall_milliseconds(),
        )


def _unreadable(registry: Registry) -> list[str]:
    """Return the instances that cannot be read now."""
    return [each.instance for each in registry.statistics() if not each.readable]


def _not_whole(missing: str) -> TopologyRefused:
    return TopologyRefused(
        f"discovery cannot be reached in whole ({missing}), so processes that only reach the rest "
        "would not follow; mend it, or leave that instance out of --discovery if they cannot write "
        "to the old primary anyway"
    )


def _known(watch: Watch, name: str) -> DatabaseRecord:
    record: DatabaseRecord | None = watch.members(DATABASE).get(name)
    if record is None:
        known = ", ".join(sorted(watch.members(DATABASE))) or "none"
        raise TopologyUnknown(f"discovery knows no database {name}; known: {known}")
    return record


def _routers(watch: Watch, name: str) -> dict[str, int]:
    """Return the present processes that use a database, and which version each has seen."""
    routers = watch.members(ROUTER).values()
    return {router.id: router.seen[name] for router in routers if name in router.seen}
