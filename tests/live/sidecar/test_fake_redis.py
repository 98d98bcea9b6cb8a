"""The Redis in memory answers as a real one: the same script, the same bytes."""

import re
from random import Random
from typing import Any

import pytest
import redis
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from fanout.core.users import SELECTORS_SINCE
from fanout.runtime.net.transport import Network, SocketNetwork, Transport
from fanout.testing.network import MemoryNetwork
from fanout.testing.redis import FakeRedis
from fanout.values.names import Endpoint
from fanout.wire.resp.replies import array, bulk
from tests.support.live.fleet import Fleet

pytestmark = pytest.mark.live

CLIENTS = 3
Step = tuple[int, list[bytes]]

RULES = [
    (b"reset", b"on", b">p", b"resetchannels", b"&*", b"~a", b"-@all", b"+ping", b"+get", b"+mget"),
    (b"reset", b"on", b"nopass", b"~*", b"&*", b"+@all"),
    (b"reset", b"on", b"nopass", b"resetchannels", b"&*", b"-@all", b"+ping", b"+subscribe",
     b"+psubscribe", b"+unsubscribe", b"+pubsub", b"(+publish resetchannels &a*)"),
    (b"+publish",), (b"-publish",), (b"off",), (b"on",),
]  # fmt: skip
"""What agents ask for, and what is near it; PING is allowed always, for the marks below."""

names = st.sampled_from([b"a", b"b", b"a*", b"[ab]", b"?", b"", b"\xff\n"])
many = st.lists(names, min_size=0, max_size=3)
commands = st.one_of(
    st.tuples(st.sampled_from([b"SUBSCRIBE", b"UNSUBSCRIBE", b"psubscribe", b"PUNSUBSCRIBE"]), many),
    st.tuples(st.just(b"PUBLISH"), st.lists(names, min_size=1, max_size=3)),
    st.tuples(st.sampled_from([b"GET", b"MGET", b"SMEMBERS", b"DEL", b"PTTL"]), many),
    st.tuples(st.sampled_from([b"SET", b"SADD", b"SREM"]), many),
    st.tuples(st.just(b"PING"), st.lists(names, max_size=1)),
    st.tuples(st.just(b"PUBSUB"), st.one_of(
        st.just([b"NUMPAT"]), many.map(lambda each: [b"NUMSUB", *each]))),
    st.tuples(st.just(b"HELLO"), st.sampled_from([[b"2"], [b"3"], [b"4"]])),
    st.just((b"INFO", [b"server"])),
    st.tuples(st.just(b"ACL"), st.sampled_from(RULES).map(lambda each: [b"SETUSER", b"u", *each])),
    st.tuples(st.just(b"AUTH"), st.sampled_from([[b"u", b"p"], [b"u", b"q"], [b"p"], [b"v", b"p"]])),
    st.just((b"HELLO", [b"3", b"AUTH", b"u", b"p"])),
    st.just((b"ROLE", [])),
    st.tuples(st.just(b"NoSuch"), many),
)  # fmt: skip
scripts = st.lists(
    st.tuples(st.integers(0, CLIENTS - 1), commands.map(lambda each: [each[0], *each[1]])),
    max_size=12,
)


async def received(network: Network, endpoint: Endpoint, script: list[Step]) -> list[bytes]:
    """Run a script step by step; return what all clients got in each step."""
    clients = [await network.connect(endpoint) for _ in range(CLIENTS)]
    got = []
    try:
        for number, (who, request) in enumerate(script):
            clients[who].send_nowait(array(map(bulk, request)))
            mark = b"step-%d" % number
            # The one who asked first: what its request sends to others is then on its way.
            got += [await until_mark(client, mark) for client in (clients[who], *clients)]
    finally:
        for client in clients:
            client.close()
    return [plain(each) for each in got]


async def until_mark(client: Transport, mark: bytes) -> bytes:
    """Read until a PING sent now is answered."""
    client.send_nowait(array((bulk(b"PING"), bulk(mark))))
    data = b""
    with trio.fail_after(10):
        while not data.endswith(bulk(mark)):
            more = await client.receive_some(65_536)
            assert more, f"cut off after {data!r}"
            data += more
    return data


PMESSAGE = rb"[*>]4\r\n\$8\r\npmessage\r\n(?:\$\d+\r\n[^\r]*\r\n){3}"
COUNT = rb":\d+\r\n"
UNSUBSCRIBED = rb"[*>]3\r\n\$\d+\r\np?unsubscribe\r\n\$\d+\r\n[^\r]*\r\n" + COUNT


def pieces(pattern: bytes, run: bytes) -> list[bytes]:
    """Return what matches, sorted."""
    return sorted(re.findall(pattern, run))


def plain(data: bytes) -> bytes:
    """Take out what differs between any two servers, or between Redis 6.2 and 7.

    Redis goes through a client's patterns, and all it is subscribed to, in the order of a hash.
    """
    data = re.sub(b"(?:%b)+" % PMESSAGE, lambda run: b"".join(pieces(PMESSAGE, run[0])), data)
    data = re.sub(
        b"(?:%b)+" % UNSUBSCRIBED,
        lambda run: b"".join(
            pieces(UNSUBSCRIBED.removesuffix(COUNT), run[0]) + pieces(COUNT, run[0])
        ),
        data,
    )
    data = re.sub(rb"-ERR Can't execute '(\w+)[^\r]*", rb"-ERR Can't execute \1", data)
    data = re.sub(rb"(permissions to run the '\w+)\|\w+'", rb"\1'", data)
    data = data.replace(b" or its subcommand", b"")
    data = re.sub(rb"-ERR AUTH <password> called[^\r]*", b"-WRONGPASS", data)
    data = re.sub(rb"-WRONGPASS[^\r]*", b"-WRONGPASS", data)
    data = re.sub(rb"-ERR unknown command[^\r]*", b"-ERR unknown command", data)
    data = re.sub(rb"[=$]\d+\r\n(?:txt:)?# Server\r\n(?:\w+:[^\r]*\r\n)+\r\n", b"INFO", data)
    data = re.sub(rb"(\$2\r\nid\r\n):\d+", rb"\1:N", data)
    return re.sub(rb"(\$7\r\nversion\r\n)\$\d+\r\n\S+", rb"\1V", data)


def test_the_fake_answers_as_redis_does(fleet: Fleet) -> None:
    """Keys, pub/sub, both protocols, errors; the keys of each script begin empty."""
    fleet.add_discovery()
    real = redis.Redis.from_url(fleet.discovery[0])
    port = int(fleet.discovery[0].rpartition(":")[2])

    async def fake(script: list[Step]) -> list[bytes]:
        network = MemoryNetwork()
        server = FakeRedis(network, Endpoint("fake", 1), Random(1))
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            result = await received(network, server.endpoint, script)
            nursery.cancel_scope.cancel()
        return result

    version: Any = real.info("server")
    has_selectors = int(version["redis_version"].split(".")[0]) >= SELECTORS_SINCE

    @settings(max_examples=300)
    @given(scripts)
    def compare(script: list[Step]) -> None:
        if not has_selectors:
            script = [(who, [word for word in step if word[:1] != b"("]) for who, step in script]
        real.flushall()
        real.acl_deluser("u")
        wanted = trio.run(received, SocketNetwork(), Endpoint("127.0.0.1", port), script)
        assert trio.run(fake, script) == wanted

    try:
        compare()
    finally:
        real.close()


def test_a_replica_answers_as_a_replica_does(fleet: Fleet) -> None:
    """It reads and publishes, and takes no writes."""
    _, port = fleet.redis()
    with redis.Redis(port=port) as real:
        real.execute_command("REPLICAOF", "127.0.0.1", "1")
        script: list[Step] = [
            (0, [b"SUBSCRIBE", b"a"]),
            (1, [b"PUBLISH", b"a", b"x"]),
            (1, [b"SET", b"k", b"v"]),
            (1, [b"SADD", b"k", b"v"]),
            (1, [b"GET", b"k"]),
            (1, [b"ROLE"]),
        ]
        wanted = trio.run(received, SocketNetwork(), Endpoint("127.0.0.1", port), script)

    async def fake() -> list[bytes]:
        network = MemoryNetwork()
        server = FakeRedis(network, Endpoint("fake", 1), Random(1))
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            server.demote()
            result = await received(network, server.endpoint, script)
            nursery.cancel_scope.cancel()
        return result

    assert trio.run(fake) == [
        re.sub(rb"\$10\r\nconnecting", b"$7\r\nconnect", each) for each in wanted
    ]
