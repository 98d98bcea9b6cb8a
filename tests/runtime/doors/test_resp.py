"""What only a fleet can show of the RESP door: counts over all sidecars, order, transactions."""

import random
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from fanout.config import Limits
from fanout.errors import CommandFailed, LinkLost
from fanout.runtime.sidecar.census import TIMEOUT_SECONDS
from fanout.testing.network import MemoryNetwork
from fanout.values.names import CENSUS_CHANNEL, Endpoint
from fanout.wire.redis.client import pack
from fanout.wire.resp.replies import smessages2
from tests.support.runtime.fleet import Client, memory_fleet, until


async def counts(client: Client, *names: bytes) -> dict[bytes, int]:
    """Ask for NUMSUB."""
    answer = await client.link.call("PUBSUB", "NUMSUB", *names)
    return dict(zip(answer[::2], answer[1::2], strict=True))


@pytest.mark.parametrize("seed", range(5))
async def test_numsub_counts_the_clients_of_all_sidecars(
    seed: int, autojump_clock: MockClock
) -> None:
    """Each once, whichever sidecar is asked and however late the answers come."""
    rng = random.Random(seed)
    network = MemoryNetwork(delay_seconds=lambda: rng.uniform(0, 0.1))
    async with memory_fleet(sidecars=3, network=network, seed=seed) as fleet:
        places = ("sidecar-1", "sidecar-1", "sidecar-2", "sidecar-3")
        clients = [await fleet.client(place) for place in places]
        for number, client in enumerate(clients):
            await client.subscribed(b"all", b"of-%d" % number)
        for client in clients:
            assert await counts(client, b"all", b"of-2", b"no") == {b"all": 4, b"of-2": 1, b"no": 0}
        names = [b"all", *(b"of-%d" % number for number in range(4))]
        assert sorted(await clients[3].link.call("PUBSUB", "CHANNELS")) == names
        assert sorted(await clients[0].link.call("PUBSUB", "CHANNELS", "of-[12]")) == names[2:4]


async def test_a_question_about_many_names_is_one_answer(autojump_clock: MockClock) -> None:
    """However many messages it takes between the sidecars."""
    async with memory_fleet() as fleet:
        asker, other = await fleet.client("sidecar-1"), await fleet.client("sidecar-2")
        names = [b"%01000d" % number for number in range(100)]
        await other.subscribed(*names)
        await asker.subscribed(names[7])

        assert await counts(asker, *names) == {name: 1 + (name == names[7]) for name in names}
        assert len(await asker.link.call("PUBSUB", "CHANNELS")) == 100


async def test_a_sidecar_that_crashed_is_not_waited_for(autojump_clock: MockClock) -> None:
    """Its connections are gone from the node that is asked; the answer does not wait for its lease."""
    async with memory_fleet(sidecars=3) as fleet:
        asker, gone = await fleet.client("sidecar-1"), await fleet.client("sidecar-3")
        await asker.subscribed(b"c")
        await gone.subscribed(b"c")
        assert await counts(asker, b"c") == {b"c": 2}
        service = await fleet.sidecar("sidecar-4")
        await (await fleet.client("sidecar-4")).subscribed(b"c")
        assert await counts(asker, b"c") == {b"c": 3}
        service.scope.cancel()
        await service.ended.wait()
        await trio.sleep(0.01)
        began = trio.current_time()

        assert await counts(asker, b"c") == {b"c": 2}
        assert trio.current_time() - began < TIMEOUT_SECONDS


async def test_without_nodes_a_sidecar_counts_its_own(autojump_clock: MockClock) -> None:
    """Better than an error or silence."""
    async with memory_fleet(nodes=1) as fleet:
        client = await fleet.client("sidecar-1")
        await client.subscribed(b"c")
        fleet.kill(fleet.redis["node-1"])
        await trio.sleep(1)

        assert await counts(client, b"c") == {b"c": 1}


async def test_an_answer_follows_the_subscription_asked_for_before(
    autojump_clock: MockClock,
) -> None:
    """Sent in one go, the question is put when the confirmation is out."""
    network = MemoryNetwork(delay_seconds=lambda: 0.05)
    async with memory_fleet(network=network) as fleet:
        client = await fleet.client("sidecar-1")
        client.subscribe(b"c")

        assert await counts(client, b"c") == {b"c": 1}


@pytest.mark.parametrize("seed", range(5))
async def test_a_transaction_is_answered_in_one_piece_and_in_order(
    seed: int, autojump_clock: MockClock
) -> None:
    """Deliveries come before or after it, and what was sent behind it is answered behind it."""
    rng = random.Random(seed)
    network = MemoryNetwork(delay_seconds=lambda: rng.choice((0.0, 0.02)))
    async with memory_fleet(network=network, seed=seed) as fleet:
        client = await fleet.client("sidecar-1")
        await client.subscribed(b"a", b"b")
        answers: list[Any] = []
        for number in range(20):
            payload = b"%d" % number
            for request in (
                (b"MULTI",),
                *((b"PUBLISH", channel, payload) for channel in (b"a", b"b", b"nobody")),
                (b"EXEC",),
                (b"PUBLISH", b"a", payload),
            ):
                client.link.submit(pack(*request), answers.append)
        client.link.flush()
        await until(lambda: len(answers) == 120)
        await until(lambda: len(client.received) == 60)

        queued = [b"QUEUED"] * 3
        assert answers == [b"OK", *queued, [1, 1, 0], 1] * 20
        on_a = [payload for channel, payload in client.received if channel == b"a"]
        assert on_a == [b"%d" % number for number in range(20) for _ in range(2)]


async def test_a_killed_client_is_cut_off_alone(autojump_clock: MockClock) -> None:
    """By another client of the same door."""
    async with memory_fleet() as fleet:
        one, two = await fleet.client("sidecar-1"), await fleet.client("sidecar-1")
        number = await two.link.call("CLIENT", "ID")
        assert await one.link.call("CLIENT", "KILL", "ID", number) == 1
        with pytest.raises(LinkLost):
            await two.link.call("PING")

        assert await one.link.call("CLIENT", "KILL", "ID", number) == 0
        assert (await one.link.call("CLIENT", "LIST")).count(b"id=") == 1


async def test_shard_channels_cross_the_fleet(autojump_clock: MockClock) -> None:
    """To the subscribers of the shard channel alone, from any sidecar."""
    async with memory_fleet() as fleet:
        one = await fleet.client("sidecar-1")
        raw = await fleet.network.connect(Endpoint("sidecar-2", 6380))
        verbs = (b"SSUBSCRIBE", b"SUBSCRIBE", b"PSUBSCRIBE")
        raw.send_nowait(b"".join(pack(verb, b"*" if verb[0] == 80 else b"c") for verb in verbs))
        data = b""
        while b"psubscribe" not in data:
            data += await raw.receive_some(65_536)
        assert await one.link.call("PUBSUB", "SHARDNUMSUB", "c") == [b"c", 1]
        assert await one.link.call("PUBSUB", "SHARDCHANNELS") == [b"c"]
        assert await one.link.call("PUBSUB", "CHANNELS") == [b"c"]
        assert await one.link.call("SPUBLISH", "c", "to the shard") >= 1
        assert await one.link.call("PUBLISH", "c", "to all") == 2
        data = b""
        while data.count(b"to all") < 2 or data.count(b"to the shard") < 1:
            data += await raw.receive_some(65_536)
        raw.close()

        assert smessages2(b"c", (b"to the shard",)) in data
        assert data.count(b"to the shard") == 1


async def test_what_a_client_held_is_free_when_it_is_gone(autojump_clock: MockClock) -> None:
    """However it left: the limit of distinct patterns counts connected clients only."""
    async with memory_fleet(sidecars=0) as fleet:
        await fleet.sidecar("sidecar-1", limits=Limits(distinct_patterns_max=1))
        one, two = await fleet.client("sidecar-1"), await fleet.client("sidecar-1")
        heard: list[Any] = []
        two.link.on_pushes = heard.extend
        one.link.submit_subscription(b"PSUBSCRIBE", (b"a*",))
        one.link.flush()
        await until(lambda: one.link.in_flight == 0)
        with pytest.raises(CommandFailed, match="distinct-patterns-max"):
            await two.link.call("PSUBSCRIBE", "b*")
        one.link.close("enough")
        await trio.sleep(0.1)
        two.link.submit_subscription(b"PSUBSCRIBE", (b"b*",))
        two.link.flush()
        await until(lambda: bool(heard))


async def test_nothing_is_done_behind_the_request_that_cut_a_client_off(
    autojump_clock: MockClock,
) -> None:
    """Later requests of the same read are dropped: their long replies could not be sent."""
    network = MemoryNetwork(buffer_bytes_max=1_000_000)
    async with memory_fleet(sidecars=1, network=network) as fleet:
        await fleet.sidecar("sidecar-2", limits=Limits(outbox_bytes_max=50_000))
        other = await fleet.client("sidecar-1")
        await other.subscribed(b"c")
        door = await fleet.network.connect(Endpoint("sidecar-2", 6380))
        door.send_nowait(pack(b"COMMAND") * 500 + pack(b"PUBLISH", b"c", b"x"))
        await trio.sleep(5)

        assert other.received == []
        door.close()


async def test_a_question_of_no_sidecar_is_ignored(autojump_clock: MockClock) -> None:
    """Any client with access to a node can publish one; its answer would go to no channel."""
    async with memory_fleet(nodes=1, sidecars=1) as fleet:
        client = await fleet.client("sidecar-1")
        await client.subscribed(b"c")
        door = await fleet.network.connect(fleet.redis["node-1"].endpoint)
        question = b'{"sidecar":"\\ud800","number":1,"space":"channels"}'
        door.send_nowait(pack(b"PUBLISH", CENSUS_CHANNEL, question))
        await trio.sleep(1)
        assert await door.receive_some(100) == b":1\r\n"
        door.close()

        assert await counts(client, b"c") == {b"c": 1}
