"""The discovery instances: every record is written to all of them and read from all of them.

Two tasks serve each instance: a slow or failed instance delays no other, and an instance that
refuses writes can still be read. A hint channel announces changes at once; polling guarantees that
they are read. After a reconnect the latest records are written again.

Long because both tasks of an instance share its state.
"""

import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from types import MappingProxyType
from typing import Any, Protocol

import attrs
import structlog
import trio

from fanout.config import DiscoveryAddress, RedisAddress, Timings
from fanout.core.backoff import Backoff, jittered, spread_seconds
from fanout.core.view import TOMBSTONE_SECONDS
from fanout.errors import CommandFailed, LinkLost, RemoteProtocolError
from fanout.notice import Notice
from fanout.runtime.discovery.reading import BATCH_MAX, Indexed, Pipeline, read_indexed
from fanout.runtime.net.transport import Network
from fanout.runtime.redis.link import Link, use_link
from fanout.values.names import NodeId
from fanout.values.records import DrainRequest, Record, Snapshot
from fanout.wire import records
from fanout.wire.records import NODE, SIDECAR, RecordKind
from fanout.wire.redis.client import Argument, pack

log = structlog.get_logger()

HINT_PAUSE_SECONDS = 0.02
"""Hints within this time cause one read; longer in a large fleet, where a read is large, and one
event makes every member write and every member read."""

FALLBACK_SECONDS = 30.0
"""How long to read the primary, after all replicas failed, before trying the replicas again."""


@attrs.frozen(kw_only=True)
class InstanceStatistics:
    """The present state of one discovery instance."""

    instance: str  # address of the primary
    readable: bool
    reads_from: str  # address; empty while disconnected
    read_at: float  # trio's clock; -inf before the first read
    reads: int
    writable: bool
    error: str  # code of the last write, if it failed; else empty
    write_errors: Mapping[str, int]  # code -> count
    records_ignored: int


@attrs.define(eq=False)
class _Instance:
    """One discovery instance."""

    number: int
    address: DiscoveryAddress
    writer: Link | None = None
    connected: trio.Event = attrs.field(factory=trio.Event)  # set at the writer's first connection
    hinted: Notice = attrs.field(factory=Notice)
    readable: bool | None = None  # None: unknown yet
    reads_from: str = ""
    read_at: float = float("-inf")
    reads: int = 0
    error: str = ""  # why the last write failed
    link_errors: dict[str, str] = attrs.field(factory=dict)  # use and address -> reason last logged
    write_errors: Counter[str] = attrs.field(factory=Counter)
    ignored: dict[bytes, str] = attrs.field(factory=dict)  # key -> why its record is invalid
    ignored_count: int = 0
    missing: dict[bytes, tuple[Indexed, float]] = attrs.field(factory=dict)  # since when
    decoded: dict[bytes, tuple[bytes, Record]] = attrs.field(factory=dict)

    @property
    def members(self) -> int:
        """The members found at the last read: as many processes read from this instance."""
        return len(self.decoded)


class DiscoveryReader(Protocol):
    """Receives the reads of discovery. Neither method may wait."""

    def on_snapshot(self, instance: int, snapshot: Snapshot) -> None:
        """Apply a read of the instance with this number."""

    def on_unreachable(self, instance: int) -> None:
        """Record that an instance cannot be read."""


class Registry:
    """Reads and writes the records of one fleet.

    Args:
        network: opens the connections.
        instances: the discovery instances; each is read from a replica, if it has any.
        cluster: name of the fleet.
        readers: called with the result of each read of an instance.
        timings: poll interval, reconnect delays; `connect_timeout_seconds` bounds every exchange.
        rng: for jitter and the choice of replicas.
        tombstone_seconds: how long the record of a node that left stays in discovery.
        agent_of: the node whose agent uses this registry. Agents also read drain requests, and
            remove ids of nodes and sidecars from the index when the record has been missing for
            `tombstone_seconds`.
        further: kinds of records to read and write besides nodes and sidecars. Their readers
            remove missing ids of these kinds; agents do not know the kinds.

    """

    def __init__(
        self,
        network: Network,
        instances: Sequence[DiscoveryAddress],
        cluster: str,
        *,
        readers: Sequence[DiscoveryReader],
        timings: Timings,
        rng: random.Random,
        tombstone_seconds: float = TOMBSTONE_SECONDS,
        agent_of: NodeId | None = None,
        further: Sequence[RecordKind[Any]] = (),
    ) -> None:
        self._network = network
        self._cluster = cluster
        self._readers = readers
        self._timings = timings
        self._rng = rng
        self._tombstone_seconds = tombstone_seconds
        self._agent_of = agent_of
        self._instances = [_Instance(n, address) for n, address in enumerate(instances)]
        kinds: tuple[RecordKind[Any], ...] = (NODE, SIDECAR, *further)
        self._kinds = {kind.type: kind for kind in kinds}
        self._swept = (*further, *((NODE, SIDECAR) if agent_of is not None else ()))
        self._last: dict[tuple[type, str], Record] = {}
        self._backoff = Backoff(
            first_seconds=timings.reconnect_first_seconds,
            max_seconds=timings.reconnect_max_seconds,
        )

    async def run(self) -> None:
        """Keep the connections to all instances and read them, until cancelled."""
        async with trio.open_nursery() as nursery:
            for instance in self._instances:
                nursery.start_soon(self._keep_writer, instance)
                nursery.start_soon(self._keep_reader, instance)

    async def write(self, record: Record, *, news: bool = True) -> int:
        """Write a record to every connected instance; return how many accepted it.

        An instance that is not connected gets the record after the reconnect. `news` sends a hint,
        so that all members read the record now. A heartbeat needs no hint: with one, the reads
        would grow with the square of the fleet.
        """
        self._last[type(record), record.id] = record
        taken = 0

        async def settle(instance: _Instance, link: Link, pipeline: Pipeline) -> None:
            nonlocal taken
            if await self._settle(instance, link, pipeline):
                taken += 1

        async with trio.open_nursery() as nursery:
            for instance in self._instances:
                link = instance.writer
                if link is not None and not link.lost:
                    # Submitted here, not in the task, so that writes keep their order.
                    pipeline = Pipeline(link, self._commands(record, news=news))
                    nursery.start_soon(settle, instance, link, pipeline)
        return taken

    async def wait_connected(self) -> None:
        """Wait until every instance was connected for writing at least once."""
        for instance in self._instances:
            await instance.connected.wait()

    async def refresh(self) -> int:
        """Read every connected primary now, not its replicas; return how many answered."""
        answered = 0

        async def read(instance: _Instance, link: Link) -> None:
            nonlocal answered
            try:
                await self._read(instance, link)
            except (LinkLost, CommandFailed) as error:
                self._log_link_lost(instance, f"refresh {instance.address.primary}", str(error))
            else:
                answered += 1

        async with trio.open_nursery() as nursery:
            for instance in self._instances:
                if instance.writer is not None and not instance.writer.lost:
                    nursery.start_soon(read, instance, instance.writer)
        return answered

    def statistics(self) -> tuple[InstanceStatistics, ...]:
        """Return the present state of each instance, in the order they were given."""
        return tuple(
            InstanceStatistics(
                instance=str(instance.address.primary),
                readable=bool(instance.readable),
                reads_from=instance.reads_from,
                read_at=instance.read_at,
                reads=instance.reads,
                writable=instance.writer is not None and not instance.error,
                error=instance.error,
                write_errors=MappingProxyType(dict(instance.write_errors)),
                records_ignored=instance.ignored_count,
            )
            for instance in self._instances
        )

    # Writing.

    def _commands(self, record: Record, *, news: bool) -> list[tuple[Argument, ...]]:
        """Return the commands that write a record: key with TTL, index entry, hint if `news`."""
        kind = self._kinds[type(record)]
        seconds = record.lease_seconds
        if record.gone and kind is not SIDECAR:  # sidecars start and stop too often
            seconds = max(seconds, self._tombstone_seconds)
        lasts = () if seconds == math.inf else ("PX", max(1, int(seconds * 1000)))
        commands: list[tuple[Argument, ...]] = [
            ("SET", kind.key(record.cluster, record.id), kind.encode(record), *lasts),
            ("SADD", kind.index_key(record.cluster), record.id),
        ]
        if news:
            commands.append(("PUBLISH", records.hint_channel(record.cluster), ""))
        return commands

    async def _settle(self, instance: _Instance, link: Link, pipeline: Pipeline) -> bool:
        """Wait for a write, with a timeout; return whether it succeeded, and log a change."""
        code = reason = ""
        try:
            with trio.fail_after(self._timings.connect_timeout_seconds):
                await pipeline.answers()
        except CommandFailed as error:
            code, reason = error.code, str(error)
        except LinkLost as lost:
            code, reason = "LINK_LOST", lost.reason
        except trio.TooSlowError:
            code, reason = "TIMEOUT", "no answer"
            link.close(reason)
        if code:
            instance.write_errors[code] += 1
        if code != instance.error:
            instance.error = code
            log.warning(
                "discovery_write_failed" if code else "discovery_write_recovered",
                instance=str(instance.address.primary),
                code=code,
                reason=reason,
            )
        return not code

    async def _keep_writer(self, instance: _Instance) -> None:
        async def session(link: Link) -> None:
            instance.writer = link
            instance.connected.set()
            try:
                commands = [self._commands(record, news=True) for record in self._last.values()]
                if commands:
                    pipeline = Pipeline(link, [each for one in commands for each in one])
                    await self._settle(instance, link, pipeline)
                await trio.sleep_forever()
            finally:
                instance.writer = None

        attempt = 0
        while True:
            began = trio.current_time()
            await self._use(instance, "write", instance.address.primary, session)
            attempt = await self._pause(instance, began, attempt)

    # Reading.

    async def _keep_reader(self, instance: _Instance) -> None:
        """Read from a random replica, or else from the primary, until cancelled."""
        attempt = 0
        while True:
            began = trio.current_time()
            before = instance.reads
            replicas = list(instance.address.replicas)
            self._rng.shuffle(replicas)
            for address in (*replicas, instance.address.primary):
                session = partial(self._follow, instance, address)
                await self._use(instance, "read", address, session)
                if instance.reads > before:
                    break  # it answered: start again with the replicas
            else:
                if instance.readable is not False:
                    instance.readable = False
                    instance.missing.clear()  # records may come and go unseen meanwhile
                    for reader in self._readers:
                        reader.on_unreachable(instance.number)
            attempt = await self._pause(instance, began, attempt)

    async def _follow(self, instance: _Instance, address: RedisAddress, link: Link) -> None:
        """Read at every hint and poll interval, until the link ends or a replica is due again."""
        link.on_pushes = lambda pushes: (
            instance.hinted.set() if any(push[0] == b"message" for push in pushes) else None
        )
        # Redis runs the commands of a connection in order: the first read follows SUBSCRIBE.
        link.submit_subscription(b"SUBSCRIBE", (records.hint_channel(self._cluster).encode(),))
        is_replica = address in instance.address.replicas
        fallback = bool(instance.address.replicas) and not is_replica
        until = trio.current_time() + (FALLBACK_SECONDS if fallback else float("inf"))
        try:
            while trio.current_time() < until:
                seen = instance.hinted.count
                await self._read(instance, link, is_replica=is_replica)
                instance.reads_from = str(address)
                await trio.sleep(max(HINT_PAUSE_SECONDS, spread_seconds(instance.members)))
                with trio.move_on_after(jittered(self._timings.poll_interval_seconds, self._rng)):
                    await instance.hinted.wait(seen)
        finally:
            instance.reads_from = ""

    async def _read(self, instance: _Instance, link: Link, *, is_replica: bool = False) -> None:
        """Read all records over one link and pass them to the readers."""
        try:
            with trio.fail_after(self._timings.connect_timeout_seconds):
                snapshot = await self._snapshot(instance, link, is_replica=is_replica)
        except trio.TooSlowError:
            link.close("no answer")
            raise LinkLost("no answer") from None
        instance.readable = True
        instance.read_at = trio.current_time()
        instance.reads += 1
        for reader in self._readers:
            reader.on_snapshot(instance.number, snapshot)

    async def _snapshot(self, instance: _Instance, link: Link, *, is_replica: bool) -> Snapshot:
        kinds = tuple(self._kinds.values())
        indexed = await read_indexed(link, self._cluster, kinds, is_replica=is_replica)
        found: dict[RecordKind[Any], list[Any]] = {kind: [] for kind in kinds}
        missing: list[Indexed] = []
        ignored, instance.ignored = instance.ignored, {}
        known, instance.decoded = instance.decoded, {}
        for each in indexed:
            if each.raw is None:
                missing.append(each)
                continue
            try:
                before, record = known.get(each.key, (b"", None))
                if record is None or each.raw != before:  # most are unchanged since the last read
                    record = each.decode()
                instance.decoded[each.key] = (each.raw, record)
                found[each.kind].append(record)
            except RemoteProtocolError as error:
                self._ignore(instance, ignored, each.key, str(error))
        self._note_missing(instance, missing)
        drain = await self._drain(link)
        nodes, sidecars, *further = found.values()
        return Snapshot(tuple(nodes), tuple(sidecars), drain, tuple(chain(*further)))

    async def _drain(self, link: Link) -> DrainRequest | None:
        """Return the drain request for the agent that uses this registry, if there is one."""
        if self._agent_of is None:
            return None
        key = records.drain_key(self._cluster, self._agent_of)
        (raw,) = await Pipeline(link, [("GET", key)]).answers()
        try:
            return records.decode_drain(raw) if raw is not None else None
        except RemoteProtocolError as error:
            log.warning("drain_request_ignored", reason=str(error))
            return None

    def _ignore(
        self, instance: _Instance, before: Mapping[bytes, str], key: bytes, reason: str
    ) -> None:
        """Record a malformed record; log it once, not at every read."""
        instance.ignored[key] = reason
        if before.get(key) != reason:
            instance.ignored_count += 1
            name = key.decode(errors="replace")
            where = str(instance.address.primary)
            log.warning("record_ignored", key=name, instance=where, reason=reason)

    def _note_missing(self, instance: _Instance, missing: Sequence[Indexed]) -> None:
        """Track since when indexed ids have no record; remove those missing too long."""
        now = trio.current_time()
        known = instance.missing
        instance.missing = {
            each.key: known.get(each.key, (each, now))
            for each in missing
            if each.kind in self._swept
        }
        if instance.writer is None:
            return
        for kind in self._swept:
            members = [
                each.member
                for each, since in instance.missing.values()
                if each.kind is kind and now - since > self._tombstone_seconds
            ]
            if members:
                # The next read shows whether it worked; an owner that returns adds itself again.
                command = pack("SREM", kind.index_key(self._cluster), *members[:BATCH_MAX])
                instance.writer.submit(command, lambda _answer: None)
        instance.writer.flush()

    # Connections.

    async def _use(
        self,
        instance: _Instance,
        use: str,
        address: RedisAddress,
        session: Callable[[Link], Awaitable[None]],
    ) -> None:
        """Run `session` on one connection until either ends."""
        reason = ""
        try:
            await use_link(
                self._network,
                address,
                session,
                timeout_seconds=self._timings.connect_timeout_seconds,
            )
        except (LinkLost, CommandFailed) as error:
            reason = str(error)
        self._log_link_lost(instance, f"{use} {address}", reason)

    def _log_link_lost(self, instance: _Instance, use: str, reason: str) -> None:
        """Log why a connection ended, unless the previous one ended for the same reason."""
        if reason and instance.link_errors.get(use) != reason:
            log.warning(
                "discovery_link_lost",
                instance=str(instance.address.primary),
                use=use,
                reason=reason,
            )
        instance.link_errors[use] = reason

    async def _pause(self, instance: _Instance, began: float, attempt: int) -> int:
        """Back off and return the number of the next attempt; a long connection resets it."""
        if trio.current_time() - began > self._backoff.max_seconds:
            attempt = 0
        members = instance.members
        await trio.sleep(self._backoff.delay_seconds(attempt, self._rng, members=members))
        return attempt + 1
