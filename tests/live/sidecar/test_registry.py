"""The registry against real Redis servers that are stopped, wiped, cut off and restarted."""

import math
import random
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import structlog
import trio

from fanout.config import DiscoveryAddress, RedisAddress, Timings
from fanout.runtime.discovery.registry import InstanceStatistics, Registry
from fanout.runtime.net.transport import SocketNetwork
from fanout.runtime.redis.link import Link, use_link
from fanout.runtime.redis.redis_server import find_redis_server, free_port
from fanout.values.names import Endpoint, NodeId, SidecarId
from fanout.values.records import NodeRecord, NodeState, SidecarRecord, Snapshot
from tests.support.notes import NOTES, Note

pytestmark = pytest.mark.live

NEVER = 100_000.0
LIMIT_SECONDS = 20.0
"""What should happen at once fails the test after this."""

NODES = "fanout:{c}:nodes"


def timings(poll_seconds: float = NEVER, connect_seconds: float = 5.0) -> Timings:
    """Return times at which nothing happens by polling unless asked for."""
    return Timings(
        poll_interval_seconds=poll_seconds,
        connect_timeout_seconds=connect_seconds,
        reconnect_first_seconds=0.01,
        reconnect_max_seconds=0.02,
    )


def node(version: int = 1, name: str = "n", **other: Any) -> NodeRecord:
    """Return a record."""
    values: dict[str, Any] = {
        "cluster": "c", "owner": "o", "state": NodeState.ACTIVE, "endpoint": Endpoint("h", 1),
        "run_id": "r", "lease_seconds": 30.0, "incarnation": 1, **other,
    }  # fmt: skip
    return NodeRecord(node=NodeId(name), version=version, **values)


SIDECAR = SidecarRecord(
    cluster="c", sidecar=SidecarId("s"), incarnation=1, version=1, lease_seconds=30.0
)


class Server:
    """One redis-server on a Unix socket; it starts with no data each time."""

    def __init__(self, path: Path) -> None:
        self.address = RedisAddress(Endpoint(path=str(path)))
        self.start()

    def start(self, *lines: str) -> None:
        """Start it and wait until it takes connections."""
        self._process = subprocess.Popen(
            [find_redis_server(), "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        path = Path(self.address.endpoint.path)
        config = ("port 0", f"unixsocket {path}", f"dir {path.parent}", 'save ""', *lines, "")
        self._process.stdin.write("\n".join(config).encode())
        self._process.stdin.close()
        for line in self._process.stdout:
            if b"ready to accept" in line.lower():
                return
        raise AssertionError("the redis-server did not start")

    def signal(self, number: int) -> None:
        """Send a signal to this one process."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it the hard way."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    async def ask(self, *command: str | int) -> Any:
        """Run one command on a connection of its own."""
        answers = []

        async def body(link: Link) -> None:
            answers.append(await link.call(*command))

        await use_link(SocketNetwork(), self.address, body, timeout_seconds=LIMIT_SECONDS)
        return answers[0]


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[Server]]:
    """Two servers that know nothing of each other."""
    both: list[Server] = []
    try:
        both.extend(Server(tmp_path / name) for name in ("a", "b"))
        yield both
    finally:
        for server in both:
            server.kill()


@attrs.define(eq=False)
class Watcher:
    """What a registry reported; `until` waits for reports, not for time."""

    snapshots: dict[int, Snapshot] = attrs.field(factory=dict)
    lost: list[int] = attrs.field(factory=list)
    registry: Registry = attrs.field(init=False)
    _news: trio.Event = attrs.field(factory=trio.Event)

    def on_snapshot(self, instance: int, snapshot: Snapshot) -> None:
        """Take a report."""
        self.snapshots[instance] = snapshot
        self._tick()

    def on_unreachable(self, instance: int) -> None:
        """Take a report."""
        self.lost.append(instance)
        self.snapshots.pop(instance, None)
        self._tick()

    def _tick(self) -> None:
        self._news.set()
        self._news = trio.Event()

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait for the report after which `true` holds."""
        with trio.fail_after(LIMIT_SECONDS):
            while not true():
                await self._news.wait()

    async def sees(self, *records: NodeRecord, instance: int = 0) -> None:
        """Wait until an instance lists exactly these nodes."""
        wanted = Snapshot(records)
        await self.until(lambda: self.snapshots.get(instance) == wanted)

    def statistics(self, instance: int = 0) -> InstanceStatistics:
        """Return those of one instance."""
        return self.registry.statistics()[instance]


@asynccontextmanager
async def running(
    *addresses: DiscoveryAddress, times: Timings | None = None, **other: Any
) -> AsyncIterator[Watcher]:
    """Run a registry that has tried every instance once."""
    watcher = Watcher()
    watcher.registry = Registry(
        SocketNetwork(),
        addresses,
        "c",
        readers=(watcher,),
        timings=times or timings(),
        rng=random.Random(1),
        **other,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watcher.registry.run)
        await watcher.until(lambda: len(watcher.snapshots) + len(watcher.lost) >= len(addresses))
        await until_written(watcher)
        yield watcher
        nursery.cancel_scope.cancel()


async def until_written(watcher: Watcher) -> None:
    """Wait until every instance that can be read has a connection for writes too."""
    with trio.fail_after(LIMIT_SECONDS):
        while await watcher.registry.refresh() < len(watcher.snapshots):
            await trio.lowlevel.checkpoint()


def at(*servers: Server) -> tuple[DiscoveryAddress, ...]:
    """Return instances without replicas."""
    return tuple(DiscoveryAddress(server.address) for server in servers)


async def calls(server: Server, command: str) -> int:
    """Return how often a server ran a command, by its own count."""
    info = (await server.ask("INFO", "commandstats")).decode()
    found = [line for line in info.splitlines() if line.startswith(f"cmdstat_{command}:")]
    return int(found[0].split("calls=")[1].split(",")[0]) if found else 0


async def test_a_write_is_seen_at_once_by_its_hint(servers: list[Server]) -> None:
    """Readers that poll only once a day see every change, in every instance."""
    async with running(*at(*servers)) as writer, running(*at(*servers)) as reader:
        assert await writer.registry.write(node()) == 2
        await reader.sees(node(), instance=0)
        await reader.sees(node(), instance=1)

        assert await writer.registry.write(SIDECAR) == 2
        await reader.until(lambda: reader.snapshots[0] == Snapshot((node(),), (SIDECAR,)))


async def test_without_hints_polling_finds_changes(servers: list[Server]) -> None:
    """The hint channel is a help, not the truth."""
    async with running(*at(servers[0])) as writer:
        await writer.registry.write(node())
        async with running(*at(servers[1]), times=timings(poll_seconds=0.05)) as reader:
            value = await servers[0].ask("GET", "fanout:{c}:node:n")
            await servers[1].ask("SET", "fanout:{c}:node:n", value)
            await servers[1].ask("SADD", NODES, "n")
            await reader.sees(node())


async def test_a_burst_of_hints_causes_few_reads(servers: list[Server]) -> None:
    """A fleet that starts at once does not read itself to death."""
    async with running(*at(servers[0])) as reader, running(*at(servers[0])) as writer:
        before = reader.statistics().reads
        for version in range(1, 101):
            await writer.registry.write(node(version))
        await reader.sees(node(100))

        assert reader.statistics().reads - before < 50


async def test_records_live_as_long_as_their_lease_and_goodbyes_longer(
    servers: list[Server],
) -> None:
    """Redis expires records that are not renewed; a goodbye outlives every lease."""
    async with running(*at(servers[0]), tombstone_seconds=500) as writer:
        await writer.registry.write(node())
        assert 0 < await servers[0].ask("PTTL", "fanout:{c}:node:n") <= 30_000

        await writer.registry.write(node(2, state=NodeState.GONE))
        assert 30_000 < await servers[0].ask("PTTL", "fanout:{c}:node:n") <= 500_000


async def test_refresh_is_a_barrier(servers: list[Server]) -> None:
    """What was written before a refresh is reported when it returns, hint or no hint."""
    async with running(*at(servers[0])) as writer, running(*at(servers[0])) as reader:
        await servers[0].ask("CLIENT", "KILL", "TYPE", "pubsub")  # no hints arrive now
        for version in range(1, 11):
            await writer.registry.write(node(version))
            assert await reader.registry.refresh() == 1
            assert reader.snapshots[0] == Snapshot((node(version),))


async def test_the_replica_takes_the_reads(servers: list[Server]) -> None:
    """The primary sees writes only; its replica's hint channel is heard as well."""
    primary, replica = servers
    await replicate(primary, replica)
    address = DiscoveryAddress(primary.address, (replica.address,))
    async with running(*at(primary)) as writer, running(address) as reader:
        before = await calls(primary, "smembers")
        theirs = writer.statistics().reads
        assert reader.statistics().reads_from == str(replica.address)
        for version in (1, 2, 3):
            await writer.registry.write(node(version))
            await reader.sees(node(version))
            await writer.sees(node(version))

        assert await calls(primary, "smembers") - before == 2 * (writer.statistics().reads - theirs)


@pytest.mark.parametrize("how", ["killed", "promoted"])
async def test_without_a_replica_in_touch_the_primary_is_read(
    servers: list[Server], how: str
) -> None:
    """A replica that is down, or that lost its primary, is passed over and nothing goes unseen."""
    primary, replica = servers
    await replicate(primary, replica)
    address = DiscoveryAddress(primary.address, (replica.address,))
    times = timings(poll_seconds=0.05)
    async with running(address, times=times) as reader, running(*at(primary)) as writer:
        if how == "killed":
            replica.kill()
        else:
            await replica.ask("REPLICAOF", "NO", "ONE")
        await writer.registry.write(node())
        await reader.until(lambda: reader.statistics().reads_from == str(primary.address))
        await reader.sees(node())
        assert reader.lost == []
        if how == "killed":
            replica.start()


async def replicate(primary: Server, replica: Server) -> None:
    """Make one server the replica of the other, over a free loopback port."""
    primary.kill()
    port = free_port("127.0.0.1")
    primary.start(f"port {port}", "bind 127.0.0.1", "repl-diskless-sync-delay 0")
    await replica.ask("REPLICAOF", "127.0.0.1", port)
    with trio.fail_after(LIMIT_SECONDS):
        while (await replica.ask("ROLE"))[3] != b"connected":
            await trio.lowlevel.checkpoint()


async def test_an_instance_that_is_back_gets_the_record_again(servers: list[Server]) -> None:
    """While one is down the other goes on at once; what it missed is replayed to it."""
    async with running(*at(*servers)) as member:
        await member.registry.write(node(1))
        servers[0].kill()
        await member.until(lambda: member.lost == [0])

        assert await member.registry.write(node(2)) == 1
        await member.sees(node(2), instance=1)
        assert not member.statistics().writable
        assert not member.statistics().readable

        servers[0].start()
        await member.sees(node(2), instance=0)
        assert member.lost == [0]


async def test_a_wiped_instance_is_filled_by_the_next_heartbeat(servers: list[Server]) -> None:
    """FLUSHALL takes the index too; a heartbeat is a whole record and brings both back."""
    async with running(*at(servers[0])) as member:
        await member.registry.write(node(1))
        await servers[0].ask("FLUSHALL")
        await member.registry.refresh()
        assert member.snapshots[0] == Snapshot()

        await member.registry.write(node(2))
        await member.sees(node(2))


async def test_a_read_only_instance_is_still_read(servers: list[Server]) -> None:
    """A refused write is counted by its code and logged once; reads go on; recovery is logged."""
    with structlog.testing.capture_logs() as logs:
        async with running(*at(*servers), times=timings(poll_seconds=0.05)) as member:
            await member.registry.write(node(1))
            await servers[0].ask("REPLICAOF", "127.0.0.1", 1)  # no primary there: data stays
            for version in (2, 3):
                assert await member.registry.write(node(version)) == 1

            found = member.statistics()
            assert (found.error, found.writable, found.readable) == ("READONLY", False, True)
            assert found.write_errors == {"READONLY": 2}
            reads = found.reads
            await member.until(lambda: member.statistics().reads > reads + 1)
            assert member.snapshots[0] == Snapshot((node(1),))

            await servers[0].ask("REPLICAOF", "NO", "ONE")
            assert await member.registry.write(node(4)) == 2
            assert member.statistics().writable
    events = [(log["event"], log["code"]) for log in logs if "discovery_write" in log["event"]]
    assert events == [("discovery_write_failed", "READONLY"), ("discovery_write_recovered", "")]


async def test_a_stopped_process_delays_nobody_for_ever(servers: list[Server]) -> None:
    """The kernel still takes its bytes, so only a bound on time tells; then it is skipped."""
    times = timings(connect_seconds=0.3, poll_seconds=0.05)
    async with running(*at(*servers), times=times) as member:
        servers[0].signal(signal.SIGSTOP)
        with trio.fail_after(LIMIT_SECONDS):
            assert await member.registry.write(node(1)) == 1
            assert await member.registry.write(node(2)) == 1
        assert member.statistics().write_errors == {"TIMEOUT": 1}  # then it was skipped
        await member.sees(node(2), instance=1)
        await member.until(lambda: 0 in member.lost)
        servers[0].signal(signal.SIGCONT)
        await member.sees(node(2), instance=0)


async def test_an_instance_down_from_the_start_is_told_once(servers: list[Server]) -> None:
    """Unreachable is an answer too: a wait for the first read must end."""
    servers[0].kill()
    async with running(*at(*servers)) as member:
        assert member.lost == [0]
        assert math.isinf(member.statistics().read_at)
        servers[0].start()
        await member.until(lambda: 0 in member.snapshots)
        assert member.lost == [0]


async def test_malformed_records_are_skipped(servers: list[Server]) -> None:
    """One bad record hides no good one, and is logged once, not at every poll."""
    with structlog.testing.capture_logs() as logs:
        async with running(*at(servers[0])) as member:
            await member.registry.write(node())
            genuine = await servers[0].ask("GET", "fanout:{c}:node:n")
            await servers[0].ask("SET", "fanout:{c}:node:bad", "{")
            await servers[0].ask("SET", "fanout:{c}:node:alias", genuine)
            await servers[0].ask("SADD", NODES, "bad", "alias", "absent")
            for _ in range(3):
                await member.registry.refresh()

            assert member.snapshots[0] == Snapshot((node(),))
            assert member.statistics().records_ignored == 2
    told = [log["key"] for log in logs if log["event"] == "record_ignored"]
    assert sorted(told) == ["fanout:{c}:node:alias", "fanout:{c}:node:bad"]


async def test_many_records_are_read_in_pieces(servers: list[Server]) -> None:
    """More records than one command fetches come complete."""
    async with running(*at(servers[0])) as member:
        wanted = [node(name=f"n{number:04}") for number in range(700)]
        async with trio.open_nursery() as nursery:
            for record in wanted:
                nursery.start_soon(member.registry.write, record)
        await member.registry.refresh()

        assert member.snapshots[0] == Snapshot(tuple(wanted))


async def test_further_kinds_are_carried_like_the_others(servers: list[Server]) -> None:
    """Written to all instances, hinted, kept, written again; unseen without a request for them."""
    async with (
        running(*at(*servers), further=(NOTES,)) as writer,
        running(*at(*servers), further=(NOTES,)) as reader,
        running(*at(*servers)) as other,
    ):
        lasting = Note(id="lasting", lease_seconds=math.inf)
        assert await writer.registry.write(Note()) == 2
        assert await writer.registry.write(lasting) == 2
        assert await writer.registry.write(node()) == 2
        wanted = Snapshot((node(),), further=(Note(), lasting))
        await reader.until(lambda: reader.snapshots == {0: wanted, 1: wanted})
        await other.sees(node())
        assert await servers[0].ask("PTTL", "fanout:{c}:note:lasting") == -1
        assert 0 < await servers[0].ask("PTTL", "fanout:{c}:note:door") <= 30_000
        await servers[0].ask("SET", "fanout:{c}:note:lasting", "{")
        await reader.registry.refresh()
        assert reader.snapshots[0] == Snapshot((node(),), further=(Note(),))

        servers[1].kill()
        await reader.until(lambda: 1 in reader.lost)
        servers[1].start()
        await reader.until(lambda: reader.snapshots.get(1) == wanted)


async def test_readers_of_a_further_kind_sweep_its_ids(servers: list[Server]) -> None:
    """No agent knows of them; the ids of nodes are left to agents."""
    await servers[0].ask("SADD", "fanout:{c}:notes", "dead")
    await servers[0].ask("SADD", NODES, "dead")
    times = timings(poll_seconds=0.02)
    async with running(
        *at(servers[0]), times=times, further=(NOTES,), tombstone_seconds=0.1
    ) as member:
        await member.registry.write(Note())
        while await servers[0].ask("SISMEMBER", "fanout:{c}:notes", "dead"):
            await member.until(lambda: True)
        assert await servers[0].ask("SMEMBERS", "fanout:{c}:notes") == [b"door"]
        assert await servers[0].ask("SMEMBERS", NODES) == [b"dead"]


@pytest.mark.parametrize("sweep", [True, False])
async def test_agents_sweep_the_ids_of_the_long_dead(servers: list[Server], sweep: bool) -> None:  # noqa: FBT001
    """The index does not grow for ever, and only members configured to clean it do."""
    await servers[0].ask("SADD", NODES, "dead")
    times = timings(poll_seconds=0.02)
    agent = NodeId("n") if sweep else None
    async with running(
        *at(servers[0]), times=times, agent_of=agent, tombstone_seconds=0.1
    ) as member:
        await member.registry.write(node())
        if sweep:
            while await servers[0].ask("SISMEMBER", NODES, "dead"):
                await member.until(lambda: True)
        else:
            began = member.statistics().read_at
            await member.until(lambda: member.statistics().read_at > began + 0.2)
        left = sorted(await servers[0].ask("SMEMBERS", NODES))
        assert left == ([b"n"] if sweep else [b"dead", b"n"])
