"""Stock clients of other kinds, unmodified, and discovery with replicas and several instances."""

import asyncio
import os
import shutil
import signal
import subprocess
from typing import Any

import pytest
import redis
import redis.asyncio

from tests.support.live.clients import client, next_data, subscribed
from tests.support.live.fleet import Fleet
from tests.support.waiting import until

pytestmark = pytest.mark.live

IOREDIS = """
const Redis = require("ioredis");
const port = Number(process.argv[1]);
const sub = new Redis(port), pub = new Redis(port);
(async () => {
  const heard = [];
  sub.on("messageBuffer", (channel, data) => {
    heard.push(data.toString("hex"));
    if (heard.length === 2) { console.log(heard.join(" ")); sub.disconnect(); pub.disconnect(); }
  });
  if (await sub.subscribe("a", "b") !== 2) throw new Error("subscribe count");
  for (const channel of ["a", "a"]) {
    const receivers = await pub.publish(channel, Buffer.from([0, 255, 10]));
    if (receivers !== 1) throw new Error("receivers " + receivers);
  }
})();
"""


def test_ioredis(fleet: Fleet) -> None:
    """ioredis, with a subscriber and a publisher connection as its users have them."""
    node, modules = shutil.which("node"), os.environ.get("FANOUT_TEST_NODE_MODULES")
    if node is None or modules is None:
        pytest.skip("needs node and ioredis: npm install ioredis, FANOUT_TEST_NODE_MODULES")
    fleet.add_discovery()
    fleet.node("node-0")
    sidecar = fleet.sidecar("one")
    result = subprocess.run(
        [node, "-e", IOREDIS, str(sidecar.port("resp"))],
        env={**os.environ, "NODE_PATH": modules},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert (result.stdout.strip(), result.stderr) == ("00ff0a 00ff0a", "")


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_asyncio(fleet: Fleet, protocol: int) -> None:
    """redis-py under asyncio, in both protocol versions, through a pipeline too."""
    fleet.add_discovery()
    fleet.node("node-0")
    fleet.node("node-1")
    sidecar = fleet.sidecar("one")

    async def main() -> None:
        connection: Any = redis.asyncio.Redis(port=sidecar.port("resp"), protocol=protocol)
        async with connection, connection.pubsub() as pubsub:
            await pubsub.subscribe("a", "b")
            await pubsub.psubscribe("c*")
            for _ in range(3):
                await pubsub.get_message(timeout=10)
            async with connection.pipeline(transaction=False) as pipe:
                for name in ("a", "b", "c1", "d"):
                    pipe.publish(name, name)
                assert await pipe.execute() == [1, 1, 1, 0]
            heard = {(await pubsub.get_message(timeout=10))["data"] for _ in range(3)}
            assert heard == {b"a", b"b", b"c1"}

    asyncio.run(main())


def test_two_discovery_instances_one_of_them_down(fleet: Fleet) -> None:
    """Records go to every instance, so any one of them is enough."""
    first = fleet.add_discovery()
    fleet.add_discovery()
    fleet.node("node-0")
    first.stop(signal.SIGKILL)
    sidecar = fleet.sidecar("one")
    fleet.node("node-1")
    with subscribed(sidecar, "a") as pubsub, client(sidecar) as publisher:
        assert publisher.publish("a", "x") == 1
        assert next_data(pubsub) == b"x"


def test_a_replica_takes_the_reads(fleet: Fleet) -> None:
    """A discovery instance given with a replica is read there, and written at its primary."""
    fleet.add_discovery()
    fleet.add_discovery()
    primary, replica = fleet.discovery
    with redis.Redis.from_url(primary) as main, redis.Redis.from_url(replica) as copy:
        port = main.connection_pool.connection_kwargs["port"]
        copy.replicaof("127.0.0.1", port)

        def linked() -> bool:
            replication: Any = copy.info("replication")
            return bool(replication["master_link_status"] == "up")

        until(linked)
        fleet.discovery = [f"{primary},{replica}"]
        fleet.node("node-0")
        fleet.sidecar("one")

        def reads(server: redis.Redis) -> int:
            stats: Any = server.info("commandstats")
            return int(stats.get("cmdstat_smembers", {"calls": 0})["calls"])

        before = reads(main)
        until(lambda: reads(copy) > 5)
        assert reads(main) == before


def test_a_redis_that_dies_under_its_agent_begins_a_new_life(fleet: Fleet) -> None:
    """The agent starts it again, and the sidecar finds it."""
    fleet.add_discovery()
    node = fleet.node("node-0")
    sidecar = fleet.sidecar("one")
    pids = subprocess.run(
        ["pgrep", "-P", str(node.pid)], capture_output=True, text=True, check=True
    ).stdout.split()
    with subscribed(sidecar, "a") as pubsub, client(sidecar) as publisher:
        os.kill(int(pids[0]), signal.SIGKILL)

        def published() -> bool:
            try:
                return int(publisher.publish("a", "x")) == 1
            except redis.ResponseError:
                return False

        until(published)
        assert next_data(pubsub) == b"x"
