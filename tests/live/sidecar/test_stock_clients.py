"""Clients, frameworks and tools as their users install them, over two sidecars of one fleet."""

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import attrs
import coredis
import pytest
import redis
import redis.asyncio
import trio
from channels_redis.pubsub import RedisPubSubChannelLayer

from tests.support.live.clients import pubsub_of
from tests.support.live.fleet import Fleet
from tests.support.waiting import WAIT_SECONDS, until

pytestmark = pytest.mark.live


@attrs.frozen
class Doors:
    """The RESP ports of two sidecars of one fleet."""

    one: int
    two: int


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    """A fleet of two nodes and two sidecars."""
    with Fleet(tmp_path_factory.mktemp("stock")) as fleet:
        fleet.add_discovery()
        fleet.node("node-0")
        fleet.node("node-1")
        sidecars = [fleet.sidecar(name) for name in ("one", "two")]
        yield Doors(*(sidecar.port("resp") for sidecar in sidecars))


def run(command: list[str], **environment: str) -> str:
    """Run a program that must succeed and complain of nothing; return what it printed."""
    result = subprocess.run(
        command,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (result.stderr, result.returncode) == ("", 0), result.stdout
    return result.stdout.strip()


def run_node(script: str, doors: Doors) -> str:
    """Run JavaScript with the ports of both sidecars."""
    node, modules = shutil.which("node"), os.environ.get("FANOUT_TEST_NODE_MODULES")
    if node is None or modules is None:
        pytest.skip("needs node and the modules named in .ci/run, in FANOUT_TEST_NODE_MODULES")
    return run([node, "-e", script, str(doors.one), str(doors.two)], NODE_PATH=modules)


def tool(name: str) -> str:
    """Return a tool of the redis-tools package."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name}: apt install redis-tools")
    return found


def test_redis_cli(doors: Doors) -> None:
    """One command after another through one connection, in both protocols."""
    commands = "SUBSCRIBE\nPUBLISH c x\nPUBSUB NUMSUB c\nMULTI\nPUBLISH c x\nEXEC\nCLIENT GETNAME\n"
    for flags in ([], ["-3"]):
        result = subprocess.run(
            [tool("redis-cli"), "-p", str(doors.one), *flags],
            input=commands,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        assert [line for line in result.stdout.splitlines() if line] == [
            "ERR wrong number of arguments for 'subscribe' command",
            *("0", "c", "0", "OK", "QUEUED", "0"),
        ]


def test_redis_benchmark(doors: Doors) -> None:
    """It asks for the configuration first, then floods."""
    base = [tool("redis-benchmark"), "-p", str(doors.one), "-n", "2000", "--csv"]
    for extra in (["-c", "20"], ["-P", "16", "--threads", "2"], ["-3"]):
        said = run([*base, *extra, "PUBLISH", "bench", "x"])
        rate = float(said.splitlines()[-1].split(",")[1].strip('"'))
        assert rate > 0


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py(doors: Doors, protocol: int) -> None:
    """Pub/sub, shard channels, transactions, and what its users ask a server for."""
    with (
        redis.Redis(port=doors.one, protocol=protocol, client_name="one") as one,
        redis.Redis(port=doors.two, protocol=protocol) as two,
        pubsub_of(one) as pubsub,
    ):
        pubsub.subscribe("a", "b")
        pubsub.psubscribe("c*")
        pubsub.ssubscribe("a")
        for _ in range(4):
            assert pubsub.get_message(timeout=WAIT_SECONDS)["type"].endswith("subscribe")
        assert two.pubsub_numsub("a", "b", "nope") == [(b"a", 1), (b"b", 1), (b"nope", 0)]
        assert sorted(two.pubsub_channels()) == [b"a", b"b"]
        assert two.pubsub_channels("a*") == [b"a"]
        assert two.pubsub_numpat() == 1
        assert two.pubsub_shardnumsub("a") == [(b"a", 1)]
        with two.pipeline() as transaction:
            for name in ("a", "b", "c1", "nope"):
                transaction.publish(name, name)
            transaction.spublish("a", "shard")
            assert transaction.execute() == [1, 1, 1, 0, 1]
        heard = [pubsub.get_message(timeout=WAIT_SECONDS) for _ in range(4)]
        assert {(each["type"], each["data"]) for each in heard} == {
            *(("message", b"a"), ("message", b"b"), ("pmessage", b"c1"), ("smessage", b"shard"))
        }
        info: Any = one.info()
        assert info["redis_mode"] == "standalone"
        assert (info["pubsub_channels"], info["pubsub_patterns"]) == (2, 1)
        clients: Any = one.client_list()
        assert [each["sub"] for each in clients if each["name"] == "one"].count("2") == 1
        assert one.config_get("maxmemory") == {"maxmemory": "0"}
        commands: Any = one.command()
        assert commands["publish"]["arity"] == 3
        ends = [each["id"] for each in clients if each["sub"] == "2"]
        assert one.client_kill_filter(_id=ends[0]) == 1
        # The stock client connects again and subscribes to everything as before.
        kinds = ["subscribe", "subscribe", "psubscribe", "ssubscribe"]
        again = [pubsub.get_message(timeout=WAIT_SECONDS)["type"] for _ in kinds]
        assert sorted(again) == sorted(kinds)
        assert two.publish("a", "again") == 1


def test_a_subscriber_that_only_pings(doors: Doors) -> None:
    """As Celery's result consumers: subscribed for hours, alive by PING alone."""
    with (
        redis.Redis(port=doors.one, health_check_interval=1) as client,
        pubsub_of(client) as pubsub,
    ):
        pubsub.subscribe("results")
        assert pubsub.get_message(timeout=WAIT_SECONDS)["type"] == "subscribe"
        for _ in range(3):
            time.sleep(1.1)
            assert pubsub.get_message(timeout=0.05) is None  # sends a PING, reads its answer
        with redis.Redis(port=doors.two) as publisher:
            assert publisher.publish("results", "done") == 1
        # The answer to a PING, which redis-py takes for no message, may come before it.
        taken = (pubsub.get_message(timeout=1) for _ in range(int(WAIT_SECONDS)))
        assert next(each for each in taken if each is not None)["data"] == b"done"


def test_a_count_without_a_sidecar_that_stopped(fleet: Fleet) -> None:
    """A sidecar that does not answer is waited for a moment; one that died, not at all."""
    fleet.add_discovery()
    fleet.node("node-0")
    one, two = fleet.sidecar("one"), fleet.sidecar("two")
    with redis.Redis(port=one.port("resp")) as client, redis.Redis(port=two.port("resp")) as other:
        subscribers = [pubsub_of(each) for each in (client, client, other)]
        for pubsub in subscribers:
            pubsub.subscribe("c")
            assert pubsub.get_message(timeout=WAIT_SECONDS)["type"] == "subscribe"
        assert client.pubsub_numsub("c") == other.pubsub_numsub("c") == [(b"c", 3)]
        two.popen.send_signal(19)  # SIGSTOP
        assert client.pubsub_numsub("c") == [(b"c", 2)]
        two.popen.kill()
        two.popen.wait()
        until(lambda: client.pubsub_numsub("c") == [(b"c", 2)])
        for pubsub in subscribers:
            pubsub.close()


NODE_REDIS = """
const { createClient } = require("redis");
const [one, two] = process.argv.slice(1, 3).map(Number);
(async () => {
  for (const RESP of [2, 3]) {
    const publisher = createClient({ socket: { port: two }, RESP, name: "publisher" });
    const subscriber = createClient({ socket: { port: one }, RESP });
    await publisher.connect(); await subscriber.connect();
    const heard = [];
    let enough; const all = new Promise(resolve => { enough = resolve; });
    const take = (data, channel) => {
      heard.push(channel + "=" + data);
      if (heard.length === 4) enough();
    };
    await subscriber.subscribe(["a", "b"], take);
    await subscriber.pSubscribe("p*", take);
    await subscriber.sSubscribe("a", (data, channel) => take(data, "shard " + channel));
    const counts = await publisher.pubSubNumSub(["a", "nope"]);
    if (Number(counts.a) !== 1 || Number(counts.nope) !== 0) throw new Error("numsub");
    const replies = await publisher.multi().publish("a", "1").publish("b", "2").exec();
    if (String(replies) !== "1,1") throw new Error("exec " + replies);
    await publisher.publish("p1", "3");
    await publisher.sPublish("a", "4");
    await all;
    console.log(heard.sort().join(" "));
    await subscriber.unsubscribe(["a", "b"]);
    subscriber.destroy(); await publisher.close();
  }
})().catch(error => { console.error(error); process.exit(1); });
"""


def test_node_redis(doors: Doors) -> None:
    """node-redis, in both protocols."""
    assert run_node(NODE_REDIS, doors) == "a=1 b=2 p1=3 shard a=4\na=1 b=2 p1=3 shard a=4"


SOCKET_IO = """
const { createServer } = require("http");
const { Server } = require("socket.io");
const { createAdapter } = require("@socket.io/redis-adapter");
const { io: connect } = require("socket.io-client");
const Redis = require("ioredis");
const ports = process.argv.slice(1, 3).map(Number);
const once = (emitter, name) => new Promise(resolve => emitter.once(name, resolve));
(async () => {
  const servers = [];
  for (const port of ports) {
    const publisher = new Redis(port), subscriber = publisher.duplicate();
    const http = createServer();
    const server = new Server(http, { adapter: createAdapter(publisher, subscriber) });
    server.on("connection", socket => socket.join("room"));
    await new Promise(resolve => http.listen(0, "127.0.0.1", resolve));
    servers.push({ server, http, redis: [publisher, subscriber] });
  }
  while (await servers[0].server.of("/").adapter.serverCount() !== 2)
    await new Promise(resolve => setTimeout(resolve, 20));
  const clients = [];
  for (const { http } of servers) {
    const client = connect(`http://127.0.0.1:${http.address().port}`, { transports: ["websocket"] });
    await once(client, "connect");
    clients.push(client);
  }
  const heard = Promise.all(clients.map(client => once(client, "news")));
  servers[0].server.to("room").emit("news", "hello");
  const sockets = await servers[1].server.in("room").fetchSockets();
  servers[1].server.on("question", reply => reply("from the other"));
  const answers = await servers[0].server.serverSideEmitWithAck("question");
  console.log(String(await heard), sockets.length, String(answers));
  for (const client of clients) client.close();
  for (const { server, redis } of servers) {
    await server.close();
    for (const each of redis) each.disconnect();
  }
})().catch(error => { console.error(error); process.exit(1); });
"""


def test_socket_io(doors: Doors) -> None:
    """Two servers on two sidecars: rooms, and requests that wait for an answer of every server.

    How many answers it waits for, the adapter reads from PUBSUB NUMSUB.
    """
    assert run_node(SOCKET_IO, doors) == "hello,hello 2 from the other"


def test_coredis_on_trio(doors: Doors) -> None:
    """An asynchronous client under trio, protocol 3."""

    async def main() -> None:
        async with (
            coredis.Redis(host="127.0.0.1", port=doors.one) as one,
            coredis.Redis(host="127.0.0.1", port=doors.two) as two,
            one.pubsub(channels=["a"], patterns=["p*"], ignore_subscribe_messages=True) as pubsub,
        ):
            with trio.fail_after(WAIT_SECONDS):
                while await two.pubsub_numsub("a") != {b"a": 1}:  # noqa: ASYNC110
                    await trio.sleep(0.02)
                while await two.pubsub_numpat() != 1:  # noqa: ASYNC110
                    await trio.sleep(0.02)
                assert await two.publish("a", "1") == 1
                assert await two.publish("p1", "2") == 1
                heard = [await anext(aiter(pubsub)) for _ in range(2)]
            assert {each["data"] for each in heard} == {b"1", b"2"}

    trio.run(main)


def test_channels_redis(doors: Doors) -> None:
    """Django Channels' pub/sub layer: two processes' layers on two sidecars."""

    async def main() -> None:
        layers = [
            RedisPubSubChannelLayer(hosts=[f"redis://127.0.0.1:{port}"])
            for port in (doors.one, doors.two)
        ]
        names = [await layer.new_channel() for layer in layers]
        for layer, name in zip(layers, names, strict=True):
            await layer.group_add("group", name)
        # The layer does not wait until it is subscribed.
        async with redis.asyncio.Redis(port=doors.one) as other:
            group = "asgi__group__group"
            while await other.pubsub_numsub(group, *names) != [  # noqa: ASYNC110
                (group.encode(), 2),
                *((name.encode(), 1) for name in names),
            ]:
                await asyncio.sleep(0.02)
        for sender in layers:
            await sender.group_send("group", {"type": "news", "text": "hello"})
            for layer, name in zip(layers, names, strict=True):
                message = await asyncio.wait_for(layer.receive(name), WAIT_SECONDS)
                assert message == {"type": "news", "text": "hello"}
        await layers[0].send(names[1], {"type": "direct"})
        assert await asyncio.wait_for(layers[1].receive(names[1]), WAIT_SECONDS) == {
            "type": "direct"
        }
        for layer in layers:
            await layer.flush()

    asyncio.run(main())
