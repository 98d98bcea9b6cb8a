"""What a fleet does when it is whole, when it changes and when parts of it fail."""

import contextlib
import random
from pathlib import Path

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock, wait_all_tasks_blocked

from fanout.config import Limits, NodeConfig, RedisAddress
from fanout.errors import CommandFailed
from fanout.runtime.agent.node_service import NodeIdTaken, run_node
from fanout.runtime.discovery.fleet import DrainRefused, ask_to_drain, read_fleet
from fanout.runtime.process.signals import Stop
from fanout.testing.network import MemoryNetwork
from fanout.testing.redis import FakeRedis
from fanout.values.names import IDENTITY_KEY, Endpoint
from tests.support.runtime.clients import CHANNELS, carried, outside, two_clients
from tests.support.runtime.fleet import LEASE, TIMINGS, Client, memory_fleet, until

NOTICE = 2 * (TIMINGS.probe_interval_seconds + TIMINGS.probe_timeout_seconds)
"""Seconds after which a node that does not deliver has been noticed."""


async def publish_all(client: Client, round_: int) -> list[tuple[bytes, bytes]]:
    """Publish one message on each channel; return what subscribers must get."""
    sent = [(channel, b"%b/%d" % (channel, round_)) for channel in CHANNELS]
    for channel, payload in sent:
        await client.publish(channel, payload)
    return sent


@pytest.mark.parametrize("bytes_max", [1, 3, 65_536])
async def test_every_message_arrives_once_however_the_bytes_are_cut(
    bytes_max: int, autojump_clock: MockClock
) -> None:
    """Through one node each, over all of them, and counted as Redis does."""
    network = MemoryNetwork(receive_bytes_max=bytes_max)
    async with memory_fleet(network=network) as fleet:
        publisher, subscriber = await two_clients(fleet)

        sent = await publish_all(publisher, 0)
        await until(lambda: len(subscriber.received) >= len(sent))

        assert sorted(subscriber.received) == sorted(sent)
        assert sum(map(carried, fleet.redis.values())) == len(sent)
        assert all(map(carried, fleet.redis.values()))
        assert await publisher.publish(b"nobody", b"") == 0
        assert await publisher.publish(CHANNELS[0], b"") == 1


@pytest.mark.parametrize("seed", range(10))
async def test_a_confirmed_subscription_hears_whatever_is_published_after(
    seed: int, autojump_clock: MockClock
) -> None:
    """On any sidecar, whatever the delays: stock clients publish right after the reply."""
    rng = random.Random(seed)
    network = MemoryNetwork(delay_seconds=lambda: rng.choice((0.0, 0.001, 0.3)))
    async with memory_fleet(network=network) as fleet:
        publisher, subscriber = await fleet.client("sidecar-1"), await fleet.client("sidecar-2")
        for channel in CHANNELS[:10]:
            await subscriber.subscribed(channel)
            await publisher.publish(channel, channel)
        await trio.sleep(5)

        assert subscriber.received == [(channel, channel) for channel in CHANNELS[:10]]


@pytest.mark.parametrize("seed", range(5))
async def test_a_node_added_under_traffic_is_used_and_loses_nothing(
    seed: int, autojump_clock: MockClock
) -> None:
    """All sidecars subscribe on it before any publishes on it."""
    rng = random.Random(seed)
    network = MemoryNetwork(delay_seconds=lambda: rng.uniform(0, 0.05))
    async with memory_fleet(nodes=2, network=network, seed=seed) as fleet:
        publisher, subscriber = await two_clients(fleet)
        sent = await publish_all(publisher, 0)
        await fleet.node("node-3", wait=False)
        round_ = 0
        while not carried(fleet.redis["node-3"]):
            round_ += 1
            assert round_ < 1000
            sent += await publish_all(publisher, round_)
        await trio.sleep(5)

        assert sorted(subscriber.received) == sorted(sent)


async def test_a_killed_node_is_left_and_comes_back(autojump_clock: MockClock) -> None:
    """Publishers go on at once, discovery forgets it by its lease, and its return is used."""
    async with memory_fleet() as fleet:
        publisher, subscriber = await two_clients(fleet)
        fleet.kill(fleet.redis["node-2"])
        await trio.sleep(0.1)

        sent = await publish_all(publisher, 0)
        await until(lambda: len(subscriber.received) >= len(sent))
        await trio.sleep(2 * LEASE)
        await fleet.restart(fleet.redis["node-2"])
        before = carried(fleet.redis["node-2"])
        round_ = 0
        while carried(fleet.redis["node-2"]) == before:
            round_ += 1
            sent += await publish_all(publisher, round_)
            await trio.sleep(0.1)
            assert round_ < 1000
        await trio.sleep(1)

        assert sorted(subscriber.received) == sorted(sent)


async def test_a_stopped_node_is_noticed_by_its_silence(autojump_clock: MockClock) -> None:
    """No byte and no error comes: probes notice, publishes go elsewhere, it comes back."""
    async with memory_fleet() as fleet:
        publisher, subscriber = await two_clients(fleet)
        fleet.network.freeze(fleet.redis["node-2"].endpoint)
        await trio.sleep(NOTICE)

        sent = await publish_all(publisher, 0)
        await until(lambda: len(subscriber.received) >= len(sent))
        assert sorted(subscriber.received) == sorted(sent)

        fleet.network.thaw(fleet.redis["node-2"].endpoint)
        before = carried(fleet.redis["node-2"])
        await trio.sleep(2 * LEASE)
        sent += await publish_all(publisher, 1)
        await trio.sleep(1)

        assert carried(fleet.redis["node-2"]) > before
        assert sorted(subscriber.received) == sorted(sent)


async def test_a_subscription_waits_for_a_stopped_node_only_until_it_is_deaf(
    autojump_clock: MockClock,
) -> None:
    """It is not confirmed while messages may still be published where it does not hear."""
    async with memory_fleet() as fleet:
        subscriber = await fleet.client("sidecar-2")
        fleet.network.freeze(fleet.redis["node-2"].endpoint)

        subscriber.subscribe(b"c")
        await trio.sleep(0.5)
        assert not subscriber.confirmed

        await until(lambda: bool(subscriber.confirmed), NOTICE + TIMINGS.connect_timeout_seconds)


async def test_a_publish_lost_with_its_node_is_unknown_and_never_doubled(
    autojump_clock: MockClock,
) -> None:
    """It may have been delivered, so it is reported and not tried elsewhere."""
    async with memory_fleet() as fleet:
        publisher, subscriber = await two_clients(fleet)
        for server in fleet.redis.values():
            fleet.network.freeze(server.endpoint)
        for channel in CHANNELS:
            publisher.publish_soon(channel, b"lost")
        await trio.sleep(0.1)
        for server in fleet.redis.values():
            fleet.network.thaw(server.endpoint)
            fleet.kill(server)
        await until(lambda: len(publisher.outcomes) == len(CHANNELS))

        assert all(str(answer).startswith("OUTCOMEUNKNOWN") for _, answer in publisher.outcomes)
        assert len(subscriber.received) == len(set(subscriber.received))


async def test_without_any_node_a_publish_fails_after_its_time(autojump_clock: MockClock) -> None:
    """It is certainly not executed, and says so."""
    async with memory_fleet(nodes=1) as fleet:
        publisher = await fleet.client("sidecar-1")
        fleet.kill(fleet.redis["node-1"])
        await trio.sleep(0.1)
        began = trio.current_time()
        with pytest.raises(CommandFailed, match="NOTPUBLISHED no_node"):
            await publisher.publish(b"c", b"x")

        waited = trio.current_time() - began
        assert waited == pytest.approx(TIMINGS.publish_timeout_seconds, abs=0.1)


async def test_discovery_may_be_away_for_any_time(autojump_clock: MockClock) -> None:
    """Nothing changes while no instance can be read, and nothing when it is back, empty."""
    async with memory_fleet() as fleet:
        publisher, subscriber = await two_clients(fleet)
        discovery = fleet.discovery[0]
        fleet.kill(discovery)
        await trio.sleep(20 * LEASE)
        sent = await publish_all(publisher, 0)
        await fleet.restart(discovery)  # a Redis without persistence: its keys are gone
        await trio.sleep(2 * LEASE)
        sent += await publish_all(publisher, 1)
        await trio.sleep(1)

        assert sorted(subscriber.received) == sorted(sent)
        assert all(map(carried, fleet.redis.values()))


@pytest.mark.parametrize("fault", ["READONLY You can't write", "OOM command not allowed"])
async def test_discovery_that_refuses_writes_takes_no_node_away(
    fault: str, autojump_clock: MockClock
) -> None:
    """Records run out everywhere at once: that is discovery's illness, the links are well."""
    async with memory_fleet() as fleet:
        publisher, subscriber = await two_clients(fleet)
        fleet.discovery[0].refuse_writes = fault
        await trio.sleep(10 * LEASE)
        sent = await publish_all(publisher, 0)
        await trio.sleep(1)

        assert sorted(subscriber.received) == sorted(sent)
        assert all(map(carried, fleet.redis.values()))


async def test_an_address_taken_by_another_redis_is_not_used(autojump_clock: MockClock) -> None:
    """Without the identity of the node nothing is published on it."""
    async with memory_fleet() as fleet:
        publisher, subscriber = await two_clients(fleet)
        fleet.kill(fleet.redis["node-2"])
        await wait_all_tasks_blocked()
        # The agent is cut off from the newcomer, so that it gets no identity.
        stranger = FakeRedis(fleet.network, Endpoint("node-2", 6379), fleet.rng)
        stranger.refuse_writes = "READONLY You can't write against a read only replica."
        async with trio.open_nursery() as nursery:
            await nursery.start(stranger.run)
            await trio.sleep(LEASE / 2)
            sent = await publish_all(publisher, 0)
            await trio.sleep(1)
            nursery.cancel_scope.cancel()

        assert not stranger.published
        assert sorted(subscriber.received) == sorted(sent)


@pytest.mark.parametrize("seed", range(5))
async def test_a_node_leaves_in_order(seed: int, autojump_clock: MockClock) -> None:
    """Publishers go first, so what they sent is still delivered."""
    rng = random.Random(seed)
    network = MemoryNetwork(delay_seconds=lambda: rng.uniform(0, 0.05))
    async with memory_fleet(nodes=2, network=network, seed=seed) as fleet:
        publisher, subscriber = await two_clients(fleet)
        agent = await fleet.node("node-3")
        await trio.sleep(1)
        sent = await publish_all(publisher, 0)
        agent.stop.requested.set()
        round_ = 0
        while not agent.ended.is_set():
            round_ += 1
            sent += await publish_all(publisher, round_)
        await trio.sleep(5)

        assert agent.code == 0
        assert carried(fleet.redis["node-3"])
        assert sorted(subscriber.received) == sorted(sent)


async def test_a_leaving_sidecar_is_waited_for_by_nobody(autojump_clock: MockClock) -> None:
    """A join after its goodbye does not wait for the deadline; a crashed one is waited for."""
    async with memory_fleet(sidecars=1) as fleet:
        leaving = await fleet.sidecar("sidecar-2")
        crashing = await fleet.sidecar("sidecar-3")
        assert await leaving.leave() == 0
        began = trio.current_time()
        await fleet.node("node-4")
        assert trio.current_time() - began < 1

        crashing.scope.cancel()
        await crashing.ended.wait()
        began = trio.current_time()
        await fleet.node("node-5")
        assert 1 < trio.current_time() - began <= LEASE + 1


async def test_a_sidecar_is_ready_only_when_it_hears_every_active_node(
    autojump_clock: MockClock,
) -> None:
    """Before that it refuses connections."""
    async with memory_fleet(sidecars=0) as fleet:
        fleet.network.freeze(fleet.redis["node-2"].endpoint)
        sidecar = await fleet.sidecar("sidecar-1", wait=False)
        await trio.sleep(LEASE / 2)
        assert not sidecar.ready.is_set()

        fleet.network.thaw(fleet.redis["node-2"].endpoint)
        await until(sidecar.ready.is_set)
        assert sidecar.said == [
            "ready resp=sidecar-1:6380 ws=ws://sidecar-1:7380/ admin=http://sidecar-1:9380/ nodes=3"
        ]


async def test_a_sidecar_is_ready_only_when_it_hears_every_node_it_found_joining(
    autojump_clock: MockClock,
) -> None:
    """The node may have looked for sidecars before this one was known."""
    async with memory_fleet(sidecars=0) as fleet:
        crashing = await fleet.sidecar("sidecar-1")
        crashing.scope.cancel()
        await crashing.ended.wait()
        fleet.network.cut("sidecar-2", "node-4")
        joining = await fleet.node("node-4", wait=False)  # waits for the crashed one's lease
        await trio.sleep(1)
        sidecar = await fleet.sidecar("sidecar-2", wait=False)
        await trio.sleep(LEASE / 2)
        assert not joining.ready.is_set()
        assert not sidecar.ready.is_set()

        fleet.network.mend("sidecar-2", "node-4")
        await until(sidecar.ready.is_set)


async def test_a_client_that_does_not_read_is_cut_off_alone(autojump_clock: MockClock) -> None:
    """Its outbox is bounded; no other client loses a message."""
    async with memory_fleet(sidecars=1) as fleet:
        await fleet.sidecar("sidecar-2", limits=Limits(outbox_bytes_max=100_000))
        publisher, subscriber = await two_clients(fleet)
        slow = await fleet.network.connect(Endpoint("sidecar-2", 6380))
        slow.send_nowait(b"*2\r\n$9\r\nSUBSCRIBE\r\n$4\r\nslow\r\n")
        await trio.sleep(1)
        await subscriber.subscribed(b"slow")
        for number in range(400):
            await publisher.publish(b"slow", b"%04d" % number * 256)
        await trio.sleep(0.1)

        numbers = [int(payload[:4]) for channel, payload in subscriber.received]
        assert numbers == list(range(400))
        assert await publisher.publish(b"slow", b"") == 1
        said = b""
        while data := await slow.receive_some(65_536):
            said += data
        assert said.endswith(b"-ERR slow_consumer: outbox exceeds 100000 bytes\r\n")


async def test_who_has_not_logged_in_may_leave_little_unread(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """However much a client may leave unread afterwards."""
    users = tmp_path / "users.toml"
    users.write_text(f'[users.u]\nsecrets = ["sha256:{"0" * 64}"]')
    network = MemoryNetwork(buffer_bytes_max=4096)
    async with memory_fleet(sidecars=0, network=network) as fleet:
        await fleet.sidecar("sidecar-1", users=str(users))
        client = await network.connect(Endpoint("sidecar-1", 6380))
        unsent = b"*1\r\n$4\r\nPING\r\n" * 2000  # each is refused with a line of 35 bytes
        with contextlib.suppress(trio.BrokenResourceError):
            while unsent:
                await client.wait_sendable()
                unsent = unsent[client.send_nowait(unsent) :]
        said = b""
        with contextlib.suppress(trio.BrokenResourceError):
            while data := await client.receive_some(65_536):
                said += data
        assert said.startswith(b"-NOAUTH ")
        assert len(said) < 10_000  # of 70,000: it was cut off


async def test_a_node_drains_when_it_is_asked_from_anywhere(autojump_clock: MockClock) -> None:
    """Only this incarnation of the node, and not the last node unless forced."""
    async with memory_fleet(nodes=1) as fleet:
        config, world = outside(fleet)
        agent = await fleet.node("node-2")
        await until(lambda: fleet.redis["node-2"].running)
        with pytest.raises(DrainRefused, match=r"no node node-3 .* known: node-1, node-2"):
            await ask_to_drain(config, "node-3", world=world)

        await ask_to_drain(config, "node-2", wait_seconds=30, world=world)

        await agent.ended.wait()
        assert agent.code == 0
        report = await read_fleet(config, world=world)
        assert [(node.id, node.state, node.fence) for node in report.nodes] == [
            ("node-1", "active", "acl")
        ]
        assert report.whole
        with pytest.raises(DrainRefused, match="last active node"):
            await ask_to_drain(config, "node-1", world=world)
        await ask_to_drain(config, "node-1", force=True, wait_seconds=30, world=world)
        # The request is still there; the next life of the node has nothing to do with it.
        fleet.kill(fleet.redis["node-1"])
        await fleet.restart(fleet.redis["node-1"])
        await fleet.agent("node-1")


async def test_status_says_what_is_not_whole(autojump_clock: MockClock) -> None:
    """A node that a sidecar cannot hear, a discovery instance that does not answer."""
    async with memory_fleet(nodes=2) as fleet:
        await fleet.add_discovery()
        config, world = outside(fleet)
        report = await read_fleet(config, world=world)
        assert report.whole
        assert 0 <= report.nodes[0].heartbeat_age_seconds <= TIMINGS.heartbeat_interval_seconds

        fleet.network.freeze(fleet.redis["node-2"].endpoint)
        fleet.network.freeze(fleet.discovery[1].endpoint)
        await trio.sleep(NOTICE + 3)
        problems = (await read_fleet(config, world=world)).problems

        assert problems[0].startswith("discovery discovery-2:6379: no ")
        assert "node node-2 is not heard by sidecar-1, sidecar-2" in problems


async def test_the_younger_of_two_agents_with_one_id_ends(autojump_clock: MockClock) -> None:
    """It says so; the node goes on as if nothing had happened."""
    async with memory_fleet(nodes=1) as fleet:
        publisher, subscriber = await two_clients(fleet)
        fleet.redis["twin"] = await fleet.start_redis(Endpoint("twin", 6379))
        config = NodeConfig(
            id="node-1",
            discovery=outside(fleet)[0].discovery,
            redis=RedisAddress(fleet.redis["twin"].endpoint),
        )
        with pytest.raises(ExceptionGroup) as caught:
            await run_node(config, world=fleet.world, stop=Stop(), announce=print)

        assert caught.group_contains(NodeIdTaken, match="id node-1, at node-1:6379")
        assert not fleet.redis["twin"].published
        sent = await publish_all(publisher, 0)
        await until(lambda: len(subscriber.received) == len(sent))


async def test_an_active_node_that_many_cannot_hear_is_not_published_to(
    autojump_clock: MockClock,
) -> None:
    """One sidecar is cut off from one node: the others publish elsewhere, so it misses nothing."""
    async with memory_fleet() as fleet:
        publisher, subscriber = await two_clients(fleet)
        fleet.network.cut("sidecar-2", "node-2")
        await trio.sleep(NOTICE + 3)
        before = carried(fleet.redis["node-2"])
        sent = await publish_all(publisher, 0)
        await until(lambda: len(subscriber.received) >= len(sent))

        assert carried(fleet.redis["node-2"]) == before
        assert sorted(subscriber.received) == sorted(sent)


async def test_a_node_without_an_agent_is_not_forgotten_while_others_hear_it(
    autojump_clock: MockClock,
) -> None:
    """A sidecar that cannot hear it goes on saying so, and hears it when it can again."""
    async with memory_fleet() as fleet:
        agent = await fleet.node("node-4")
        publisher, subscriber = await two_clients(fleet)
        await trio.sleep(1)  # all publish on it
        fleet.network.cut("sidecar-2", "node-4")
        agent.scope.cancel()
        for channel in CHANNELS:
            subscriber.publish_soon(b"elsewhere-" + channel, b"notices that it cannot publish")
        await trio.sleep(4 * LEASE)
        before = carried(fleet.redis["node-4"])
        sent = await publish_all(publisher, 0)
        await until(lambda: len(subscriber.received) >= len(sent))
        assert carried(fleet.redis["node-4"]) == before

        fleet.network.mend("sidecar-2", "node-4")
        await trio.sleep(NOTICE + 3)
        sent += await publish_all(publisher, 1)
        await trio.sleep(1)

        assert carried(fleet.redis["node-4"]) > before
        assert sorted(subscriber.received) == sorted(sent)


async def test_a_node_that_discovery_forgot_is_not_published_to_once_a_sidecar_starts(
    autojump_clock: MockClock,
) -> None:
    """Its agent is dead and others hear it: the new one says what it cannot hear."""
    async with memory_fleet() as fleet:
        agent = await fleet.node("node-4")
        publisher, _ = await two_clients(fleet)
        agent.scope.cancel()
        await trio.sleep(4 * LEASE)
        before = carried(fleet.redis["node-4"])
        await publish_all(publisher, 0)
        assert carried(fleet.redis["node-4"]) > before, "it delivers: those who hear it go on"

        await fleet.sidecar("sidecar-3")
        subscriber = await fleet.client("sidecar-3")
        await subscriber.subscribed(*CHANNELS)
        sent = await publish_all(publisher, 1)
        await until(lambda: len(subscriber.received) >= len(sent))

        assert sorted(subscriber.received) == sorted(sent)


async def test_a_node_made_a_replica_is_not_used_until_it_is_itself_again(
    autojump_clock: MockClock,
) -> None:
    """It answers and delivers, but its data, and so its identity, is another's."""
    async with memory_fleet() as fleet:
        publisher, subscriber = await two_clients(fleet)
        server = fleet.redis["node-2"]
        server.demote()
        await trio.sleep(NOTICE)
        before = carried(server)
        sent = await publish_all(publisher, 0)
        await until(lambda: len(subscriber.received) >= len(sent))
        assert carried(server) == before

        server.promote()
        await trio.sleep(2 * LEASE)
        sent += await publish_all(publisher, 1)
        await trio.sleep(1)

        assert carried(server) > before
        assert sorted(subscriber.received) == sorted(sent)


async def test_a_node_that_was_silent_for_long_joins_again(autojump_clock: MockClock) -> None:
    """To publish there at once would be before a slow sidecar has subscribed."""
    async with memory_fleet() as fleet:
        publisher, subscriber = await two_clients(fleet)
        server = fleet.redis["node-2"]
        fleet.network.freeze(server.endpoint)
        await trio.sleep(2 * LEASE)
        fleet.network.cut("sidecar-2", "node-2")
        fleet.network.thaw(server.endpoint)
        sent = []
        for number in range(60):
            sent += await publish_all(publisher, number)
            await trio.sleep(0.1)
            if number == 30:
                fleet.network.mend("sidecar-2", "node-2")
        await trio.sleep(2 * LEASE)
        before = carried(server)
        sent += await publish_all(publisher, 60)
        await trio.sleep(1)

        assert sorted(subscriber.received) == sorted(sent)
        assert carried(server) > before
        samples = await fleet.admin["node-2"].samples()
        assert samples["fanout_agent_lives_total",] == 2


@pytest.mark.parametrize("flushes", [1, 3])
async def test_flushed_nodes_lose_nothing(flushes: int, autojump_clock: MockClock) -> None:
    """The identity is a key, and FLUSHALL takes it: agents put it back before a sidecar leaves."""
    async with memory_fleet() as fleet:
        publisher, subscriber = await two_clients(fleet)
        sent = []
        for round_ in range(flushes):
            for server in fleet.redis.values():
                server.restore({})
            for number in range(100):
                sent += await publish_all(publisher, 1000 * round_ + number)
                await trio.sleep(0.1)
        await trio.sleep(1)

        assert sorted(subscriber.received) == sorted(sent)
        failures = [
            value
            for name in ("sidecar-1", "sidecar-2")
            for key, value in (await fleet.admin[name].samples()).items()
            if key[0] == "fanout_node_link_failures_total"
        ]
        assert failures
        assert set(failures) == {0.0}
        assert all(IDENTITY_KEY in server.dump() for server in fleet.redis.values())


async def test_cooperative_nodes_log_sidecars_in_as_configured(autojump_clock: MockClock) -> None:
    """Where the agent may not create users, all log in as the operator configured."""
    async with memory_fleet(nodes=0, sidecars=0) as fleet:
        fleet.node_login = ("managed", "canary")
        await fleet.node("node-1", wait=False)
        await fleet.sidecar("sidecar-1")
        client = await fleet.client("sidecar-1")
        await client.subscribed(b"c")

        assert await client.publish(b"c", b"x") == 1
        (node,) = (await read_fleet(outside(fleet)[0], world=fleet.world)).nodes
        assert node.fence == "cooperative"


async def test_the_same_seed_gives_the_same_run(autojump_clock: MockClock) -> None:
    """Nothing in a fleet depends on chance but through the generator it is given."""

    async def run() -> list[list[tuple[bytes, bytes]]]:
        async with memory_fleet(seed=7) as fleet:
            publisher, _ = await two_clients(fleet)
            await publish_all(publisher, 0)
            return [server.published for server in fleet.redis.values()]

    assert await run() == await run()


async def test_a_node_that_has_much_to_deliver_is_not_taken_for_dead(
    autojump_clock: MockClock,
) -> None:
    """A probe stands in line behind what was published before; as long as that comes, all is well."""
    network = MemoryNetwork(buffer_bytes_max=2000)
    async with memory_fleet(nodes=1, network=network) as fleet:
        subscriber, publisher = await fleet.client("sidecar-1"), await fleet.client("sidecar-2")
        await subscriber.subscribed(b"c")
        for number in range(20):  # so that the node sends much more than it is sent
            subscriber.link.submit_subscription(b"PSUBSCRIBE", (b"c" + b"*" * number,))
        subscriber.link.flush()
        await until(lambda: not subscriber.link.in_flight)
        payloads = [b"%03d" % number for number in range(80)]
        network.delay_seconds = lambda: 0.3
        behind = []
        for number, payload in enumerate(payloads):
            publisher.publish_soon(b"c", payload)
            if number > 20:  # as fast as it can be delivered
                await trio.sleep(0.16)
                behind.append(number - len(subscriber.received))
        await until(lambda: len(subscriber.received) == len(payloads))

        assert min(behind[10:]) * 0.16 > TIMINGS.probe_timeout_seconds
        assert subscriber.received == [(b"c", payload) for payload in payloads]
