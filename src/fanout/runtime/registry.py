"""The discovery instances: every record is written to all of them and read from all of them.

Each instance is served by its own tasks, so that one that is slow or down delays nobody. A hint
channel makes changes known at once; polling is what is relied on. What was last written is written
again as soon as a connection comes back.
"""

import random
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import attrs
import structlog
import trio

from fanout.config import DiscoveryAddress, RedisAddress, Timings
from fanout.core.backoff import Backoff, jittered
from fanout.errors import CommandFailed, LinkLost, RemoteProtocolError
from fanout.runtime.link import Link, use_link
from fanout.runtime.transport import Network
from fanout.values import NodeRecord, NodeState, SidecarRecord, Snapshot
from fanout.wire import records

log = structlog.get_logger()

_R = TypeVar("_R")

TOMBSTONE_LEASES = 60
"""A goodbye stays in discovery for so many leases."""

HINT_PAUSE_SECONDS = 0.02
"""Hints that come close together cause one read."""

MGET_MAX = 512
"""Records fetched with one command."""


@attrs.define(eq=False)
class _Instance:
    """One discovery instance."""

    number: int
    address: DiscoveryAddress
    writer: Link | None = None
    hinted: trio.Event = attrs.field(factory=trio.Event)
    trouble: str = ""  # why the last write failed


class Registry:
    """Reads and writes the records of one fleet."""

    def __init__(
        self,
        network: Network,
        instances: Sequence[DiscoveryAddress],
        cluster: str,
        *,
        on_snapshot: Callable[[int, Snapshot], None],
        on_unreachable: Callable[[int], None],
        timings: Timings,
        rng: random.Random,
    ) -> None:
        self._network = network
        self._cluster = cluster
        self._on_snapshot = on_snapshot
        self._on_unreachable = on_unreachable
        self._timings = timings
        self._rng = rng
        self._instances = [_Instance(n, address) for n, address in enumerate(instances)]
        self._last: NodeRecord | SidecarRecord | None = None
        self._backoff = Backoff(
            first_seconds=timings.reconnect_first_seconds,
            max_seconds=timings.reconnect_max_seconds,
        )

    async def run(self) -> None:
        """Keep the connections to all instances and read them until cancelled."""
        async with trio.open_nursery() as nursery:
            for instance in self._instances:
                nursery.start_soon(self._keep_writer, instance)
                nursery.start_soon(self._keep_reader, instance)

    async def write(self, record: NodeRecord | SidecarRecord) -> int:
        """Write a record to every connected instance; return how many took it.

        An instance that is not connected gets it when it is.
        """
        self._last = record
        return await self._everywhere(lambda instance, link: self._write(instance, link, record))

    async def refresh(self) -> int:
        """Read every connected primary now; return how many answered."""
        return await self._everywhere(self._read)

    async def _everywhere(self, act: Callable[[_Instance, Link], Awaitable[None]]) -> int:
        """Do something with the writing link of every connected instance at once, bounded."""
        done = 0

        async def one(instance: _Instance, link: Link) -> None:
            nonlocal done
            trouble = ""
            try:
                with trio.fail_after(self._timings.connect_timeout_seconds):
                    await act(instance, link)
                done += 1
            except CommandFailed as error:
                trouble = error.code
            except LinkLost as lost:
                trouble = lost.reason
            except trio.TooSlowError:
                trouble = "too slow"
                link.close("it does not answer")
            if trouble != instance.trouble:
                instance.trouble = trouble
                event = "discovery_write_failed" if trouble else "discovery_write_recovered"
                log.warning(event, instance=str(instance.address.primary), reason=trouble)

        async with trio.open_nursery() as nursery:
            for instance in self._instances:
                if instance.writer is not None:
                    nursery.start_soon(one, instance, instance.writer)
        return done

    async def _write(
        self, _instance: _Instance, link: Link, record: NodeRecord | SidecarRecord
    ) -> None:
        lease = record.lease_seconds
        if isinstance(record, NodeRecord):
            kind, name = "nodes", str(record.node)
            key = records.node_key(record.cluster, name)
            if record.state is NodeState.GONE:
                lease *= TOMBSTONE_LEASES
        else:
            kind, name = "sidecars", str(record.sidecar)
            key = records.sidecar_key(record.cluster, name)
        await link.call("SET", key, records.encode_record(record), "PX", int(lease * 1000))
        await link.call("SADD", records.index_key(record.cluster, kind), name)
        await link.call("PUBLISH", records.hint_channel(record.cluster), "")

    async def _keep_writer(self, instance: _Instance) -> None:
        async def session(link: Link) -> None:
            instance.writer = link
            try:
                if self._last is not None:
                    await self.write(self._last)
                await trio.sleep_forever()
            finally:
                instance.writer = None

        attempt = 0
        while True:
            attempt = await self._session(instance.address.primary, session, attempt)

    async def _keep_reader(self, instance: _Instance) -> None:
        async def session(link: Link) -> None:
            link.on_push = lambda push: instance.hinted.set() if push[0] == b"message" else None
            link.submit_subscription(b"SUBSCRIBE", (records.hint_channel(self._cluster).encode(),))
            while True:
                instance.hinted = trio.Event()
                try:
                    with trio.fail_after(self._timings.connect_timeout_seconds):
                        await self._read(instance, link)
                except trio.TooSlowError:
                    raise LinkLost("discovery does not answer") from None
                with trio.move_on_after(jittered(self._timings.poll_interval_seconds, self._rng)):
                    await instance.hinted.wait()
                await trio.sleep(HINT_PAUSE_SECONDS)

        attempt = 0
        while True:
            replicas = list(instance.address.replicas)
            self._rng.shuffle(replicas)
            for address in (*replicas, instance.address.primary):
                attempt = await self._session(address, session, attempt)
            self._on_unreachable(instance.number)

    async def _session(
        self, address: RedisAddress, session: Callable[[Link], Awaitable[None]], attempt: int
    ) -> int:
        """Use one connection until it ends, then wait; return the number of the next attempt."""
        began = trio.current_time()
        try:
            await use_link(
                self._network,
                address,
                session,
                timeout_seconds=self._timings.connect_timeout_seconds,
            )
        except (LinkLost, CommandFailed) as error:
            log.warning("discovery_link_lost", instance=str(address), reason=str(error))
        if trio.current_time() - began > self._backoff.max_seconds:
            attempt = 0
        await trio.sleep(self._backoff.delay_seconds(attempt, self._rng))
        return attempt + 1

    async def _read(self, instance: _Instance, link: Link) -> None:
        nodes = await self._records(link, "nodes", records.node_key, records.decode_node)
        sidecars = await self._records(
            link, "sidecars", records.sidecar_key, records.decode_sidecar
        )
        self._on_snapshot(instance.number, Snapshot(tuple(nodes), tuple(sidecars)))

    async def _records(
        self,
        link: Link,
        kind: str,
        key: Callable[[str, str], str],
        decode: Callable[[bytes], _R],
    ) -> list[_R]:
        members = await link.call("SMEMBERS", records.index_key(self._cluster, kind))
        names = sorted(member.decode("utf-8", "replace") for member in members)
        found = []
        for start in range(0, len(names), MGET_MAX):
            chunk = names[start : start + MGET_MAX]
            for raw in await link.call("MGET", *(key(self._cluster, name) for name in chunk)):
                if raw is None:
                    continue
                try:
                    found.append(decode(raw))
                except RemoteProtocolError as error:
                    log.warning("record_ignored", kind=kind, reason=str(error))
        return found
