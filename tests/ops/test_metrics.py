"""Metrics tell what happened, under the names that the docs list, and nothing a client chooses."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fanout.config import Limits
from fanout.core.histogram import Histogram
from fanout.core.in_flight import Answer
from fanout.errors import CommandFailed
from fanout.runtime.admin.sidecar_metrics import SIDECAR_METRICS
from fanout.runtime.agent.agent_metrics import AGENT_METRICS
from fanout.runtime.metrics.common_metrics import COMMON_METRICS
from fanout.runtime.metrics.metrics import Family, words
from fanout.runtime.process.loop_watch import LoopWatch
from fanout.testing.network import MemoryNetwork
from fanout.values.names import Endpoint
from fanout.wire.records import NODE
from fanout.wire.redis.client import pack
from tests.support.runtime.fleet import TIMINGS, Client, MemoryFleet, memory_fleet, until

DOCS = Path(__file__).parents[2] / "docs/ops/metrics.md"
TABLES: dict[str, tuple[Family[Any], ...]] = {
    "Both commands": COMMON_METRICS,
    "fanout-sidecar": SIDECAR_METRICS,
    "fanout-node": AGENT_METRICS,
}
CHANNELS = tuple(b"channel-%d" % number for number in range(20))
NOTICE = 2 * (TIMINGS.probe_interval_seconds + TIMINGS.probe_timeout_seconds)


def rows(heading: str) -> list[str]:
    """Return the rows of the table below a heading of the docs."""
    section = DOCS.read_text().split(f"### {heading}\n")[1].split("\n#")[0]
    return [line for line in section.splitlines() if line.startswith("| `")]


@pytest.mark.parametrize("heading", TABLES)
def test_the_docs_list_every_metric_as_it_is(heading: str) -> None:
    """Name, kind, labels and help."""
    common = {family.name for family in TABLES["Both commands"]}
    own = [
        family
        for family in TABLES[heading]
        if heading == "Both commands" or family.name not in common
    ]
    assert own

    assert rows(heading) == [
        f"| `{each.name}` | {each.kind} | {', '.join(each.labels)} | {each.help} |" for each in own
    ]


@pytest.mark.parametrize("table", [SIDECAR_METRICS, AGENT_METRICS])
def test_names_follow_the_conventions(table: tuple[Family[Any], ...]) -> None:
    """Of Prometheus: a prefix, a base unit, and `_total` on counters only; each name once."""
    for family in table:
        assert re.fullmatch(r"fanout_[a-z]+(_[a-z]+)*", family.name)
        assert family.name.endswith("_total") is (family.kind == "counter")
        assert family.name.endswith("_info") is (family.kind == "info")
        assert family.kind != "histogram" or family.name.endswith("_seconds")
        assert family.help.endswith(".")
        assert not {"instance", "job", "le"} & set(family.labels)  # Prometheus' own
    names = [family.name for family in table]
    assert len(names) == len(set(names))


def test_words_of_others_are_one_series() -> None:
    """A Redis that invents an error code for each write makes no series of its own."""
    counts = {"OOM": 2, "FOO": 3, "BAR": 4}

    assert dict(words(counts, ("OOM", "BUSY"), "x")) == {
        ("x", "OOM"): 2,
        ("x", "BUSY"): 0,
        ("x", "other"): 7,
    }


def test_a_histogram_counts_what_took_no_longer() -> None:
    """Steps are inclusive, and the last is infinite."""
    histogram = Histogram((0.1, 1.0))
    for seconds, count in ((0.1, 3), (0.11, 1), (5.0, 2)):
        histogram.add(seconds, count)

    found = histogram.statistics()
    assert found.buckets == ((0.1, 3), (1.0, 4), (float("inf"), 6))
    assert found.count == 6
    assert found.seconds == pytest.approx(0.3 + 0.11 + 10.0)


def total(samples: dict[tuple[str, ...], float], name: str, *last: str) -> float:
    """Return the sum of the series of a name whose last label values are these."""
    start = len(last)
    return sum(
        value
        for key, value in samples.items()
        if key[0] == name and key[len(key) - start :] == last
    )


async def publish_all(client: Client, channels: Sequence[bytes] = CHANNELS) -> None:
    """Publish one message on each channel, all of them in one go."""
    outcomes: list[Answer] = []
    for channel in channels:
        client.link.submit(pack(b"PUBLISH", channel, b"canary"), outcomes.append)
    client.link.flush()
    await until(lambda: len(outcomes) == len(channels))


async def test_every_message_is_counted_once_at_each_place(autojump_clock: MockClock) -> None:
    """Where it enters, on its node, where it comes out; with how long the node took."""
    async with memory_fleet() as fleet:
        publisher, subscriber = await fleet.client("sidecar-1"), await fleet.client("sidecar-2")
        listener = await fleet.client("sidecar-2")
        await subscriber.subscribed(*CHANNELS)
        await listener.link.call("PING")
        listener.link.submit_subscription(b"PSUBSCRIBE", (b"channel-1*",))
        listener.link.flush()
        await until(lambda: not listener.link.in_flight)
        await publish_all(publisher)
        await until(lambda: len(subscriber.received) == 20)
        one = await fleet.admin["sidecar-1"].samples()
        two = await fleet.admin["sidecar-2"].samples()

    assert total(one, "fanout_consumer_published_messages_total", "resp") == 20
    assert total(one, "fanout_publishes_total", "executed") == 20
    assert total(one, "fanout_publish_seconds_count") == 20
    assert total(one, "fanout_node_published_messages_total") == 20
    assert all(one["fanout_node_published_messages_total", f"node-{n}"] for n in (1, 2, 3))
    # 20 for the channels and 11 for the pattern, each as a message of its own from the node.
    assert total(two, "fanout_node_received_messages_total") == 31
    assert total(two, "fanout_deliveries_total", "resp") == 31
    assert total(two, "fanout_deliveries_total", "ws") == 0
    assert two["fanout_names", "channel"] == 20
    assert two["fanout_names", "pattern"] == 1
    assert total(two, "fanout_consumer_subscriptions", "resp") == 21
    assert total(two, "fanout_consumers", "resp") == 2
    assert total(two, "fanout_names_unconfirmed") == 0
    carried = 31 * len(b"canary")
    assert total(two, "fanout_node_received_bytes_total") > carried
    assert total(two, "fanout_consumer_sent_bytes_total", "resp") > carried
    assert total(one, "fanout_node_sent_bytes_total") > 20 * len(b"canary")
    assert total(one, "fanout_consumer_received_bytes_total", "resp") > 20 * len(b"canary")
    assert one["fanout_sidecars",] == 2
    assert one["fanout_node_join_seconds_count",] == 0  # they were active when it came


async def test_messages_that_come_as_one_run_are_counted_each(autojump_clock: MockClock) -> None:
    """A run is forwarded as it came, and answered as one."""
    async with memory_fleet(nodes=1, sidecars=1) as fleet:
        client = await fleet.client("sidecar-1")
        for _ in range(2):  # from the second on the channel is known
            await publish_all(client, [b"c"] * 64)
        samples = await fleet.admin["sidecar-1"].samples()

    assert samples["fanout_consumer_published_messages_total", "resp"] == 128
    assert samples["fanout_node_published_messages_total", "node-1"] == 128
    assert samples["fanout_publishes_total", "executed"] == 128
    assert total(samples, "fanout_publish_seconds_count") == 128


async def test_nothing_that_clients_choose_is_a_label(autojump_clock: MockClock) -> None:
    """Channels and payloads are as many as they like."""
    async with memory_fleet(nodes=1, sidecars=1) as fleet:
        client = await fleet.client("sidecar-1")
        await client.subscribed(*CHANNELS)
        await publish_all(client)
        text = await fleet.admin["sidecar-1"].scrape()
        before = len(text.splitlines())
        await client.subscribed(*(b"more-%d" % number for number in range(100)))
        after = len((await fleet.admin["sidecar-1"].scrape()).splitlines())

    assert "channel-" not in text
    assert "canary" not in text
    assert before == after


async def test_a_client_that_leaves_stays_in_the_sums(autojump_clock: MockClock) -> None:
    """Counters never go back."""
    async with memory_fleet(nodes=1, sidecars=1) as fleet:
        client = await fleet.client("sidecar-1")
        await client.subscribed(*CHANNELS)
        await publish_all(client)
        before = await fleet.admin["sidecar-1"].samples()
        client.link.close("enough")
        await trio.sleep(1)
        after = await fleet.admin["sidecar-1"].samples()

    assert (before["fanout_consumers", "resp"], after["fanout_consumers", "resp"]) == (1, 0)
    for name in ("sent", "received"):
        key = (f"fanout_consumer_{name}_bytes_total", "resp")
        assert after[key] >= before[key] > 0
    assert after["fanout_consumer_connections_total", "resp"] == 1
    assert after["fanout_consumer_subscriptions", "resp"] == 0


async def test_a_node_that_dies_shows_in_every_figure(autojump_clock: MockClock) -> None:
    """Unknown outcomes, lost links, a gap, the node unheard; all ends when it is back."""
    async with memory_fleet() as fleet:
        client = await fleet.client("sidecar-1")
        await client.subscribed(*CHANNELS)
        node = fleet.redis["node-2"]
        fleet.network.freeze(node.endpoint)
        for channel in CHANNELS:
            client.publish_soon(channel, b"x")
        await trio.sleep(0.1)
        fleet.network.thaw(node.endpoint)
        fleet.kill(node)
        await until(lambda: len(client.outcomes) == len(CHANNELS))
        await trio.sleep(1)
        dead = await fleet.admin["sidecar-1"].samples()
        readiness = fleet.admin["sidecar-1"].readiness()
        agent = await fleet.admin["node-2"].samples()
        await fleet.restart(node)
        await until(lambda: fleet.admin["node-2"].readiness().unready == "")
        await trio.sleep(NOTICE)
        back = await fleet.admin["sidecar-1"].samples()
        reborn = await fleet.admin["node-2"].samples()

    unknown = dead["fanout_publishes_total", "unknown"]
    assert unknown > 0
    assert dead["fanout_publishes_total", "executed"] == len(CHANNELS) - unknown
    assert dead["fanout_node_link_failures_total", "node-2", "fanout-data"] > 0
    assert dead["fanout_node_gaps_total", "node-2", "lost"] == 1
    assert dead["fanout_node_deaf", "node-2"] == 1
    assert dead["fanout_node_covered", "node-2"] == 0
    assert dead["fanout_node_usable", "node-2"] == 0
    assert dead["fanout_node_received_bytes_total", "node-2"] > 0  # of links that are no more
    assert dead["fanout_node_sent_bytes_total", "node-2"] > 0
    assert dead["fanout_node_deaf", "node-1"] == 0
    assert dead["fanout_ready",] == 0
    assert "node-2" in readiness.unready
    assert agent["fanout_agent_redis_up",] == 0
    assert agent["fanout_agent_redis_failures_total",] > 0
    heard = ("fanout_node_gaps_total", "node-2", "heard")
    assert back[heard] - dead[heard] == 1
    assert back["fanout_node_deaf", "node-2"] == 0
    assert back["fanout_ready",] == 1
    assert reborn["fanout_agent_lives_total",] == 2
    assert reborn["fanout_agent_join_seconds_count",] == 2
    assert reborn["fanout_agent_redis_up",] == 1


async def test_a_node_that_stops_fails_its_probes(autojump_clock: MockClock) -> None:
    """Those of the sidecar and those of its agent."""
    async with memory_fleet() as fleet:
        before = await fleet.admin["sidecar-1"].samples()
        fleet.network.freeze(fleet.redis["node-2"].endpoint)
        await trio.sleep(NOTICE)
        after = await fleet.admin["sidecar-1"].samples()
        agent = await fleet.admin["node-2"].samples()

    assert before["fanout_node_probe_failures_total", "node-2"] == 0
    assert after["fanout_node_probe_failures_total", "node-2"] > 0
    assert after["fanout_node_probe_failures_total", "node-1"] == 0
    assert after["fanout_node_probes_total", "node-1"] > 1
    assert agent["fanout_agent_probe_failures_total",] == 1


def state_at(sidecar: str, fleet: MemoryFleet, node: str) -> str:
    """Return the state in which a sidecar knows a node."""
    return str(fleet.admin[sidecar].readiness().facts["nodes"][node]["state"])


async def shut(fleet: MemoryFleet, name: str, *, is_open: bool) -> None:
    """Set the publish gate of a node without its agent."""
    node = await fleet.network.connect(fleet.redis[name].endpoint)
    rule = b"+publish" if is_open else b"-publish"
    node.send_nowait(pack(b"ACL", b"SETUSER", b"fanout-data", rule))
    assert await node.receive_some(100) == b"+OK\r\n"
    node.close()


async def test_a_sidecar_is_unready_while_every_node_refuses_its_publishes(
    autojump_clock: MockClock,
) -> None:
    """Refused by only some nodes, it stays ready; nodes are asked again even without publishes."""
    async with memory_fleet(nodes=2, sidecars=1) as fleet:
        client = await fleet.client("sidecar-1")
        admin = fleet.admin["sidecar-1"]
        await shut(fleet, "node-1", is_open=False)
        await publish_all(client)
        some = admin.readiness()
        samples = await admin.samples()
        retries = samples["fanout_publish_retries_total",]
        assert total(samples, "fanout_node_published_messages_total") == 20 + retries
        assert samples["fanout_publishes_total", "executed"] == 20
        await shut(fleet, "node-2", is_open=False)
        with pytest.raises(CommandFailed, match="publish_failed"):
            await client.publish(b"c", b"x")
        refused = admin.readiness()
        await shut(fleet, "node-1", is_open=True)
        await publish_all(client)
        again = admin.readiness()
        await shut(fleet, "node-1", is_open=False)
        with pytest.raises(CommandFailed, match="publish_failed"):
            await client.publish(b"c", b"x")
        silent = [admin.readiness().unready]
        await trio.sleep(11)
        silent.append(admin.readiness().unready)
        failed = (await admin.samples())["fanout_publishes_total", "publish_failed"]

    assert (some.unready, some.facts["fenced"]) == ("", ["node-1"])
    assert retries > 0
    assert refused.unready == "all active nodes refuse publishes"
    assert refused.facts["fenced"] == ["node-1", "node-2"]
    assert again.unready == ""
    assert silent == ["all active nodes refuse publishes", ""]
    assert failed == 2


async def test_a_sidecar_is_ready_from_its_first_client_to_the_word_to_leave(
    autojump_clock: MockClock,
) -> None:
    """A load balancer must not send it clients before or after."""
    async with memory_fleet(nodes=0, sidecars=0) as fleet:
        sidecar = await fleet.sidecar("sidecar-1", wait=False, nodes_min=2)
        await until(lambda: "sidecar-1" in fleet.admin)
        readiness = fleet.admin["sidecar-1"].readiness
        alone = readiness().unready
        await fleet.node("node-1")
        await until(lambda: readiness().unready == "doors not open yet")
        assert not sidecar.ready.is_set()
        await fleet.node("node-2")
        await sidecar.ready.wait()
        ready = readiness().unready
        sidecar.stop.requested.set()
        leaving = readiness().unready
        samples = await fleet.admin["sidecar-1"].samples()

    assert (alone, ready, leaving) == ("no active node", "", "shutting down")
    assert samples["fanout_ready",] == 0


async def test_a_channel_that_nodes_refuse_makes_no_sidecar_unready(
    autojump_clock: MockClock,
) -> None:
    """In cooperative mode the operator's user may have few channels, and any client asks for more."""
    async with memory_fleet(nodes=0, sidecars=0) as fleet:
        fleet.node_login = ("managed", "canary")
        await fleet.node("node-1")
        await fleet.sidecar("sidecar-1")
        user = fleet.redis["node-1"]._users[b"managed"]
        for rule in (b"resetchannels", b"&__fanout:*", b"&allowed"):
            user.apply(rule)
        client = await fleet.client("sidecar-1")
        with pytest.raises(CommandFailed, match="NOPERM"):
            await client.publish(b"other", b"x")
        readiness = fleet.admin["sidecar-1"].readiness()
        agent = await fleet.admin["node-1"].samples()

    assert readiness.unready == ""
    assert agent["fanout_agent_cooperative",] == 1


async def test_two_agents_with_one_id_are_noticed(autojump_clock: MockClock) -> None:
    """By the sidecar that finds the younger one's record."""
    async with memory_fleet(nodes=1, sidecars=1) as fleet:
        fleet.network.cut("node-1", "discovery-1")  # else the agents settle it among themselves
        record = NODE.decode(fleet.discovery[0].peek(NODE.key("default", "node-1").encode()) or b"")
        rival = attrs.evolve(record, owner="rival", version=record.version + 1)
        door = await fleet.network.connect(fleet.discovery[0].endpoint)
        door.send_nowait(pack(b"SET", NODE.key("default", "node-1").encode(), NODE.encode(rival)))
        await trio.sleep(2 * TIMINGS.poll_interval_seconds)
        samples = await fleet.admin["sidecar-1"].samples()
        door.close()

    assert samples["fanout_node_conflicts_total",] == 1


async def test_a_loop_that_is_held_up_is_late(mock_clock: MockClock) -> None:
    """By what it was held up for, once what was due is run."""
    loop = LoopWatch()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(loop.run)
        await wait_all_tasks_blocked()
        mock_clock.jump(0.25)
        await wait_all_tasks_blocked()
        mock_clock.jump(1.0)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

    assert loop.last_seconds == pytest.approx(0.75)
    found = loop.statistics()
    assert found.count == 2
    assert found.seconds == pytest.approx(0.75)


async def test_readiness_tells_how_old_the_view_is_and_survives_discovery(
    autojump_clock: MockClock,
) -> None:
    """Without discovery everything goes on, and readiness shows that the view is stale."""
    async with memory_fleet(sidecars=1) as fleet:
        seen = fleet.admin["sidecar-1"].readiness()
        fleet.kill(fleet.discovery[0])
        await trio.sleep(100)
        blind = fleet.admin["sidecar-1"].readiness()
        node = fleet.admin["node-1"].readiness()
        samples = await fleet.admin["sidecar-1"].samples()

    assert seen.facts["discovery_age_seconds"] <= 2 * TIMINGS.poll_interval_seconds
    assert seen.facts["discovery_readable"]
    assert (blind.unready, node.unready) == ("", "")
    assert blind.facts["discovery_age_seconds"] > 90
    assert not blind.facts["discovery_readable"]
    assert not node.facts["discovery_readable"]
    assert samples["fanout_discovery_readable", "discovery-1:6379"] == 0
    assert samples["fanout_discovery_writable", "discovery-1:6379"] == 0
    assert samples["fanout_discovery_read_age_seconds", "discovery-1:6379"] > 90
    assert samples["fanout_membership_frozen",] == 1
    assert samples["fanout_ready",] == 1


async def test_joins_and_drains_are_timed_by_those_who_see_them(autojump_clock: MockClock) -> None:
    """Also by sidecars: an agent ends with its drain, and cannot report it."""
    async with memory_fleet() as fleet:
        node = await fleet.node("node-4")
        await until(lambda: state_at("sidecar-1", fleet, "node-4") == "active")
        joined = await fleet.admin["sidecar-1"].samples()
        leaving = fleet.admin["node-4"]
        node.stop.requested.set()
        await until(lambda: leaving.readiness().unready != "")
        draining = leaving.readiness()
        await node.ended.wait()
        left = await leaving.samples()
        await trio.sleep(1)
        after = await fleet.admin["sidecar-1"].samples()

    assert joined["fanout_node_join_seconds_count",] == 1
    assert joined["fanout_node_state", "node-4", "active"] == 1
    assert draining.unready in (
        "shutting down",
        "not accepting publishes: node is draining; waiting for sidecar-1, sidecar-2",
    )
    assert left["fanout_agent_drain_seconds_count",] == 1
    assert left["fanout_agent_state", "gone"] == 1
    assert total(left, "fanout_agent_deadlines_missed_total") == 0
    assert after["fanout_node_drain_seconds_count",] == 1
    assert ("fanout_node_state", "node-4", "active") not in after


async def test_deadlines_that_a_stuck_sidecar_causes_are_counted(autojump_clock: MockClock) -> None:
    """A join goes on without it, and so does a drain, twice."""
    async with memory_fleet() as fleet:
        fleet.network.cut("sidecar-2", "node-4")
        service = await fleet.node("node-4", wait=False)
        await until(lambda: "node-4" in fleet.admin)
        await until(lambda: fleet.admin["node-4"].readiness().facts["missing"] == ["sidecar-2"])
        waiting = fleet.admin["node-4"].readiness()
        samples = await fleet.admin["node-4"].samples()
        await until(lambda: fleet.admin["node-4"].readiness().unready == "", 60)
        joined = await fleet.admin["node-4"].samples()
        admin = fleet.admin["node-4"]
        assert await service.leave() == 0
        left = await admin.samples()

    assert waiting.unready == "not accepting publishes: node is joining; waiting for sidecar-2"
    assert samples["fanout_agent_missing_sidecars",] == 1
    assert samples["fanout_agent_state", "joining"] == 1
    assert joined["fanout_agent_deadlines_missed_total", "join"] == 1
    assert joined["fanout_agent_join_seconds_sum",] >= TIMINGS.join_timeout_seconds
    assert left["fanout_agent_deadlines_missed_total", "join"] == 1


async def test_what_consumers_do_wrong_is_counted(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """By the door, and by the word that the log has for it."""
    users = tmp_path / "users.toml"
    users.write_text(f'[users.u]\nsecrets = ["sha256:{"0" * 64}"]')
    async with memory_fleet(nodes=1, sidecars=0) as fleet:
        await fleet.sidecar("sidecar-1", users=str(users), limits=Limits(clients_max=1))
        for sent in (pack(b"AUTH", b"u", b"guess") + pack(b"QUIT"), b"*x\r\n"):
            client = await fleet.network.connect(Endpoint("sidecar-1", 6380))
            client.send_nowait(sent)
            while await client.receive_some(1000):
                pass
            client.close()
            await trio.sleep(0.1)
        silent = await fleet.network.connect(Endpoint("sidecar-1", 6380))
        await trio.sleep(0.1)
        refused = await fleet.network.connect(Endpoint("sidecar-1", 6380))
        await refused.receive_some(1000)
        await trio.sleep(10)
        samples = await fleet.admin["sidecar-1"].samples()
        silent.close()
        refused.close()

    assert samples["fanout_consumer_faults_total", "wrong_secret", "resp"] == 1
    assert samples["fanout_consumer_faults_total", "protocol_error", "resp"] == 1
    assert samples["fanout_consumers_cut_total", "login_timeout", "resp"] == 1
    assert samples["fanout_consumers_refused_total", "resp"] == 1
    assert samples["fanout_consumer_connections_total", "resp"] == 3
    assert samples["fanout_consumers", "resp"] == 0


async def test_a_slow_consumer_is_seen_before_and_after_it_is_cut(
    autojump_clock: MockClock,
) -> None:
    """Its outbox grows, then it is gone and counted."""
    network = MemoryNetwork(buffer_bytes_max=4096)
    async with memory_fleet(nodes=1, sidecars=0, network=network) as fleet:
        await fleet.sidecar("sidecar-1", limits=Limits(outbox_bytes_max=50_000))
        publisher = await fleet.client("sidecar-1")
        slow = await network.connect(Endpoint("sidecar-1", 6380))
        slow.send_nowait(pack(b"SUBSCRIBE", b"c"))
        await slow.receive_some(1000)
        await publisher.publish(b"c", b"x" * 30_000)
        await trio.sleep(0.1)
        waiting = await fleet.admin["sidecar-1"].samples()
        await publisher.publish(b"c", b"x" * 30_000)
        await trio.sleep(5)
        cut = await fleet.admin["sidecar-1"].samples()
        slow.close()

    largest = waiting["fanout_consumer_outbox_largest_bytes", "resp"]
    assert 20_000 < largest <= waiting["fanout_consumer_outbox_bytes", "resp"] < 50_000
    assert waiting["fanout_consumers_cut_total", "slow_consumer", "resp"] == 0
    assert cut["fanout_consumers_cut_total", "slow_consumer", "resp"] == 1
    assert cut["fanout_consumer_outbox_bytes", "resp"] == 0
