"""The RESP door of a running fleet against a real redis-server: one script, the same bytes.

What may differ is in docs/redis-commands.md; `plain` takes out what differs between any two
servers.
"""

import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fanout.core.glob import compile_pattern
from fanout.runtime.redis.redis_server import find_redis_server
from fanout.wire.redis.client import NOT_YET, PushNotification, ReplyReader, pack
from tests.support.live.fleet import Fleet
from tests.support.wire.like_redis import LIKE_REDIS

pytestmark = pytest.mark.live

Step = tuple[int, list[bytes]]
CLIENTS = 2


class Raw:
    """A connection that sends and reads bytes."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._marks = 0

    def ask(self, *requests: bytes) -> bytes:
        """Send requests and a mark; return what is answered before the mark, or until the close.

        The mark is a PING of its own text. In a transaction it is queued as everything else, one
        reply for each request; the answer then holds that reply too.
        """
        self._marks += 1
        mark = b"mark-%04d" % self._marks
        self.socket.sendall(b"".join(requests) + pack(b"PING", mark))
        answer, reader, replies = b"", ReplyReader(), 0
        while True:
            try:
                got = self.socket.recv(65536)
            except ConnectionResetError:
                got = b""
            if not got:
                return answer + b"<closed>"
            answer += got
            reader.feed(got)
            while (reply := reader.gets()) is not NOT_YET:
                if isinstance(reply, PushNotification):
                    continue
                replies += 1
                if reply in (mark, [b"pong", mark]):
                    tail = b"$9\r\n%b\r\n" % mark
                    return answer.removesuffix(tail).removesuffix(b"*2\r\n$4\r\npong\r\n")
                if reply == b"QUEUED" and replies > len(requests):
                    return answer


@attrs.frozen
class Pair:
    """The ports of a redis-server and of a sidecar of a fleet."""

    redis: int
    sidecar: int

    @contextmanager
    def connect(self) -> Iterator[tuple[Raw, Raw]]:
        """Connect to both."""
        real, ours = Raw(self.redis), Raw(self.sidecar)
        try:
            yield real, ours
        finally:
            real.socket.close()
            ours.socket.close()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A plain redis-server, whose words must be those of Redis 7, and a fleet of two nodes."""
    version = subprocess.run(
        [find_redis_server(), "--version"], capture_output=True, text=True, check=True
    ).stdout
    if int(version.split("v=")[1].split(".")[0]) < 7:
        pytest.skip("needs redis-server 7 or newer: apt install redis-server")
    folder: Path = tmp_path_factory.mktemp("pair")
    with Fleet(folder) as fleet:
        _, port = fleet.redis()
        fleet.add_discovery()
        fleet.node("node-0")
        fleet.node("node-1")
        yield Pair(port, fleet.sidecar("one").port("resp"))


MESSAGE = rb"[*>](?:3\r\n\$[78]\r\ns?message|4\r\n\$8\r\npmessage)\r\n(?:\$\d+\r\n[^\r]*\r\n){2,3}"
COUNT = rb":\d+\r\n"
UNSUBSCRIBED = rb"[*>]3\r\n\$\d+\r\n[ps]?unsubscribe\r\n\$\d+\r\n[^\r]*\r\n" + COUNT


def plain(data: bytes) -> bytes:
    """Take out what differs between any two servers.

    A client that gives up everything, Redis serves in the order of a hash. Numbers and addresses
    of clients, their ages and the memory of a connection are each server's own.
    """
    data = re.sub(
        b"(?:%b)+" % UNSUBSCRIBED,
        lambda run: b"".join(
            sorted(
                each.removesuffix(re.search(COUNT + b"$", each)[0])  # type: ignore[index]
                for each in re.findall(UNSUBSCRIBED, run[0])
            )
            + sorted(re.findall(COUNT + b"(?=[*>]|$)", run[0]))
        ),
        data,
    )
    data = re.sub(rb"(\$2\r\nid\r\n):\d+", rb"\1:N", data)
    data = re.sub(rb"(\$7\r\nversion\r\n)\$\d+\r\n\S+", rb"\1V", data)
    data = re.sub(rb"[=$]\d+\r\n(txt:)?(?=id=)", rb"TEXT \1 ", data)
    return re.sub(
        rb"\b(id|l?addr|fd|age|idle|flags|qbuf|qbuf-free|argv-mem|multi-mem|rbs|rbp|obl|omem|tot-mem)"
        rb"=\S+",
        rb"\1=?",
        data,
    )


def different(pair: Pair, requests: list[bytes | list[bytes]]) -> list[object]:
    """Tell both the requests, one by one; return those that were answered differently."""
    found: list[object] = []
    with pair.connect() as (real, ours):
        for each in requests:
            request = pack(*(each if isinstance(each, list) else each.split()))
            wanted, got = plain(real.ask(request)), plain(ours.ask(request))
            if wanted != got:
                found.append((each, wanted, got))
    return found


SCRIPTS: dict[str, list[bytes | list[bytes]]] = {
    "subscribing": [
        b"SUBSCRIBE", b"SUBSCRIBE a b a", b"PSUBSCRIBE a* a*", b"UNSUBSCRIBE nope", b"PING",
        b"PING z", b"PING x y", b"UNSUBSCRIBE a", b"PUNSUBSCRIBE", b"UNSUBSCRIBE b", b"UNSUBSCRIBE",
        b"PUNSUBSCRIBE", b"PING", b"UNSUBSCRIBE a b a", b"PUNSUBSCRIBE x", b"subscribe a",
        b"Subscribe b", b"UNSUBSCRIBE", b"PSUBSCRIBE", b"SSUBSCRIBE", b"RESET", b"PING",
    ],
    "shards": [
        b"SSUBSCRIBE a b a", b"SUBSCRIBE a", b"PING", b"SUNSUBSCRIBE nope", b"SUNSUBSCRIBE a",
        b"SUNSUBSCRIBE", b"SUNSUBSCRIBE", b"PING", b"UNSUBSCRIBE", b"PING", b"SPUBLISH a x",
        b"SPUBLISH a", b"SPUBLISH a b c", b"PUBSUB SHARDCHANNELS", b"PUBSUB SHARDNUMSUB a b",
    ],
    "only a subscriber": [
        b"SUBSCRIBE a", b"CLIENT GETNAME", b"client nope", b"client", b"nope", b"HELLO 3",
        b"PUBSUB NUMPAT", b"EXEC", b"MULTI", b"SPUBLISH a x", b"PUBLISH a x", b"PUBLISH a", b"EXEC", b"ECHO x",
        b"UNSUBSCRIBE", b"ECHO x",
    ],
    "publishing": [
        b"PUBLISH a", b"PUBLISH a b", b"PUBLISH a b c", b"publish a b", b"PUBLISH", b"PUBSUB",
        b"PUBSUB NOPE", b"PUBSUB CHANNELS a b", b"PUBSUB NUMPAT x", b"PUBSUB HELP", b"PUBSUB HELP x",
        b"PUBSUB SHARDCHANNELS a b", b"pubsub channels", b"PUBSUB CHANNELS a*", b"PUBSUB NUMSUB",
        b"PUBSUB NUMSUB a b a", b"PUBSUB NUMPAT", b"PUBSUB SHARDNUMSUB",
    ],
    "hello": [
        b"HELLO", b"HELLO 4", b"HELLO x", b"HELLO 0", b"HELLO 1", b"HELLO 3.0", b"HELLO 03",
        b"HELLO +3", b"HELLO -3", b"HELLO 99999999999999999999", b"HELLO 3 SETNAME",
        b"HELLO 3 SETNAME a AUTH other x", b"CLIENT GETNAME", [b"HELLO", b"2", b"SETNAME", b"a b"],
        b"hello 2 setname x", b"CLIENT GETNAME", [b"HELLO", b"2", b"SETNAME", b""], b"CLIENT GETNAME",
        b"HELLO 3 FOO", b"HELLO 3 AUTH a", b"HELLO foo AUTH", b"HELLO 3 AUTH default x", b"HELLO 2",
        b"HELLO 3 AUTH other x", b"HELLO 3 AUTH default x SETNAME me", b"CLIENT GETNAME", b"RESET",
        b"CLIENT GETNAME", b"AUTH x", b"AUTH default x", b"AUTH other x", b"AUTH a b c", b"AUTH",
        b"HELLO 2",
    ],
    "client": [
        b"CLIENT", b"CLIENT ID x", b"CLIENT GETNAME x", b"CLIENT SETNAME", b"CLIENT SETNAME me",
        b"CLIENT GETNAME", [b"CLIENT", b"SETNAME", b"a\nb"], [b"CLIENT", b"SETNAME", b""],
        b"CLIENT GETNAME", b"CLIENT KILL", b"CLIENT KILL 1.2.3.4:5", b"CLIENT KILL ID x",
        b"CLIENT KILL ID 99999", b"CLIENT KILL ID", b"CLIENT KILL NOPE x", b"CLIENT KILL TYPE foo",
        b"CLIENT KILL ID 0", b"CLIENT KILL ID -1", b"CLIENT KILL SKIPME maybe",
        b"CLIENT KILL USER foo", b"CLIENT KILL ADDR 1.2.3.4:5", b"CLIENT KILL TYPE pubsub",
        b"CLIENT KILL TYPE normal ID 99", b"CLIENT LIST", b"CLIENT INFO", b"CLIENT LIST TYPE pubsub",
        b"CLIENT LIST TYPE x", b"CLIENT LIST ID 99998 99999", b"CLIENT LIST ID x",
        b"CLIENT LIST ID", b"CLIENT LIST NOPE", b"CLIENT LIST TYPE", b"CLIENT LIST TYPE normal x",
        b"CLIENT INFO x", b"CLIENT NO-EVICT on", b"CLIENT NO-EVICT x", b"CLIENT NO-EVICT",
        b"CLIENT NOPE", [b"CLIENT", b"n" * 300], [b"client", b"a\r\nb"], b"CLIENT NO-EVICT off",
        b"CLIENT SETNAME listed", b"CLIENT LIST TYPE normal",
    ],
    "replies off": [
        b"CLIENT REPLY", b"CLIENT REPLY x", b"CLIENT REPLY OFF x", b"CLIENT REPLY ON",
    ],
    "transactions": [
        b"EXEC x", b"EXEC", b"DISCARD", b"MULTI", b"MULTI", b"PUBLISH a b", b"PING", b"EXEC", b"MULTI", b"EXEC",
        b"MULTI", b"nope", b"PUBLISH a b", b"EXEC", b"EXEC", b"MULTI", b"PUBLISH x", b"DISCARD",
        b"MULTI", b"WATCH x", b"EXEC", b"WATCH x y", b"UNWATCH", b"UNWATCH x", b"WATCH", b"MULTI",
        b"UNWATCH", b"SELECT 0", b"CLIENT GETNAME", b"ECHO x", b"EXEC", b"MULTI", b"CLIENT NOPE",
        b"EXEC", b"MULTI", b"MULTI x", b"EXEC x", b"DISCARD x", b"EXEC", b"MULTI", b"PING", b"RESET",
        b"EXEC", b"MULTI", b"SUBSCRIBE x y", b"PSUBSCRIBE z", b"PING", b"CLIENT GETNAME",
        b"UNSUBSCRIBE x y", b"EXEC", b"PING", b"RESET", b"MULTI", b"SSUBSCRIBE x y", b"PUBLISH a b",
        b"SUNSUBSCRIBE", b"EXEC", b"PING", b"MULTI", b"HELLO 3", b"PING", b"CLIENT GETNAME", b"EXEC",
        b"MULTI", b"CLIENT INFO", b"PUBSUB NUMSUB a", b"EXEC", b"HELLO 2", b"MULTI", b"AUTH x",
        b"HELLO 2", b"EXEC",
    ],
    "others": [
        b"ECHO", b"ECHO x", b"ECHO x y", b"SELECT 0", b"SELECT x", b"SELECT 99", b"SELECT -1",
        b"SELECT", b"SELECT 99999999999999999999", b"SELECT -0", b"SELECT 00", b"TIME x", b"RESET x",
        b"CONFIG", b"CONFIG GET", b"CONFIG NOPE", b"CONFIG GET maxmemory", b"CONFIG GET MaxMemory",
        b"CONFIG GET maxmemory-policy", b"CONFIG GET save", b"CONFIG GET appendonly",
        b"CONFIG GET timeout", b"CONFIG GET proto-max-bulk-len", b"CONFIG GET nope",
        b"CONFIG GET notify-keyspace-events", b"CONFIG GET client-output-buffer-limit",
        b"INFO nope", b"INFO cluster", b"INFO keyspace", b"COMMAND COUNT x", b"COMMAND NOPE",
        b"COMMAND LIST x", b"COMMAND INFO nope publish client|id", b"COMMAND DOCS nope",
        b"nope", b"nope a b c", [b"nope", b"x" * 200, b"y"], [b"n" * 300, b"a"], [b"", b"a"],
        [b"a\r\nb", b"c\nd"], [b"PUBLISH\r\n", b"x"], b"client|id", b"|", [b"\xff\x00", b"\xfe"],
    ],
}  # fmt: skip


@pytest.mark.parametrize("prefix", [[], [b"HELLO 3"]], ids=["resp2", "resp3"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_answered_as_by_redis(
    pair: Pair, name: str, prefix: list[bytes | list[bytes]]
) -> None:
    """Written cases, one request at a time."""
    found = different(pair, prefix + SCRIPTS[name])

    assert not found, "\n".join(map(str, found))


@pytest.mark.parametrize(
    "lines",
    [
        b"CLIENT REPLY SKIP;PING;PING;CLIENT REPLY SKIP;CLIENT REPLY SKIP;PING;PING",
        b"CLIENT REPLY OFF;CLIENT REPLY SKIP;PING;nope;CLIENT REPLY ON;PING",
        b"CLIENT REPLY OFF;SUBSCRIBE a;PING;UNSUBSCRIBE;PING;CLIENT REPLY ON;PING",
        b"CLIENT REPLY OFF;PUBLISH a b;SPUBLISH a b;PUBSUB NUMSUB a;RESET;PING",
        b"CLIENT REPLY SKIP;RESET;PING;CLIENT REPLY SKIP;nope;PING",
        b"CLIENT REPLY SKIP;SUBSCRIBE a;RESET",
        b"CLIENT REPLY OFF;HELLO 3;CLIENT REPLY ON;PING;HELLO 2",
        b"CLIENT REPLY OFF;MULTI;PUBLISH a b;EXEC;CLIENT REPLY ON;PING",
        b"MULTI;CLIENT REPLY SKIP;PING;EXEC;PING;PING",
        b"PING;QUIT;PING", b"QUIT x", b"MULTI;QUIT", b"SUBSCRIBE a;QUIT", b"RESET;PING",
        b"CLIENT KILL SKIPME yes;CLIENT KILL SKIPME no;PING", b"SUBSCRIBE a b;UNSUBSCRIBE a b;PING",
        b"PUBLISH a b;SUBSCRIBE a;PING;SUBSCRIBE b;UNSUBSCRIBE a;UNSUBSCRIBE b;PUBLISH a b",
    ],
)  # fmt: skip
def test_pipelines_are_answered_as_by_redis(pair: Pair, lines: bytes) -> None:
    """Everything is sent at once; replies and the end of the connection are the same."""
    requests = [pack(*line.split()) for line in lines.split(b";")]
    with pair.connect() as (real, ours):
        assert plain(ours.ask(*requests)) == plain(real.ask(*requests))


names = st.sampled_from([b"a", b"b", b"a*", b"?", b"", b"\xff\n"])
many = st.lists(names, max_size=3)
requests = st.one_of(
    st.tuples(
        st.sampled_from(
            [b"SUBSCRIBE", b"UNSUBSCRIBE", b"psubscribe", b"PUNSUBSCRIBE", b"SSUBSCRIBE",
             b"SUNSUBSCRIBE"]
        ),
        many,
    ),
    st.tuples(st.sampled_from([b"PUBLISH", b"SPUBLISH"]), st.lists(names, min_size=1, max_size=3)),
    st.tuples(st.sampled_from([b"PING", b"ECHO"]), st.lists(names, max_size=1)),
    st.tuples(
        st.just(b"PUBSUB"),
        st.one_of(
            st.just([b"NUMPAT"]),
            many.map(lambda each: [b"NUMSUB", *each]),
            many.map(lambda each: [b"SHARDNUMSUB", *each]),
        ),
    ),
    st.tuples(st.just(b"HELLO"), st.sampled_from([[b"2"], [b"3"], [b"4"], [b"3", b"SETNAME", b"n"]])),
    st.tuples(st.just(b"CLIENT"), st.sampled_from([[b"GETNAME"], [b"SETNAME", b"x"], [b"NO"]])),
    st.tuples(st.sampled_from([b"RESET", b"MULTI", b"EXEC", b"DISCARD"]), st.just([])),
    st.tuples(st.just(b"NoSuch"), many),
).map(lambda each: [each[0], *each[1]])  # fmt: skip
scripts = st.lists(st.tuples(st.integers(0, CLIENTS - 1), requests), max_size=12)


def received(port: int, script: list[Step]) -> list[tuple[int, list[bytes], list[list[bytes]]]]:
    """Run a script; return of every step what each client got: messages, and all else."""
    clients = [Raw(port) for _ in range(CLIENTS)]
    got = []
    try:
        for who, request in script:
            answers = [clients[who].ask(pack(*request))]
            # Now what the request sends to others is on its way or there.
            answers += [client.ask() for client in clients]
            got.append((who, request, [apart(each) for each in answers]))
    finally:
        for client in clients:
            client.socket.close()
    return got


def apart(data: bytes) -> list[bytes]:
    """Return the messages, sorted, and the rest: Redis orders them differently in one step."""
    return [*sorted(re.findall(MESSAGE, data)), plain(re.sub(MESSAGE, b"", data))]


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(scripts)
def test_random_scripts_are_answered_as_by_redis(pair: Pair, script: list[Step]) -> None:
    """Two clients, all that changes subscriptions, both protocols, transactions."""
    assert received(pair.sidecar, script) == received(pair.redis, script)


@pytest.mark.parametrize(
    "data",
    [
        b"*x\r\n",
        b"*1\r\n:1\r\n",
        b"*1\r\n$x\r\n",
        b"*1\r\n$-1\r\n",
        b"*99999999999\r\n",
        b"*1\r\n$999999999999\r\n",
        b"*0\r\n*-1\r\n\r\nPING\r\n",
        b"  ping   x \nQUIT\r\n",
        *(data for data, _ in LIKE_REDIS),
    ],
    ids=lambda data: repr(data[:20]),
)
def test_protocol_errors_are_answered_as_by_redis(pair: Pair, data: bytes) -> None:
    """A client that breaks the protocol gets Redis' error, then is disconnected."""
    with pair.connect() as (real, ours):
        assert ours.ask(data) == real.ask(data)


@pytest.mark.parametrize("line", [b"GET / HTTP/1.1", b"POST / HTTP/1.1", b"Host: example.org"])
def test_a_browser_is_hung_up_on(pair: Pair, line: bytes) -> None:
    """Redis does so for POST and Host:, the door for every verb of HTTP: nothing is said."""
    ours = Raw(pair.sidecar)
    assert ours.ask(line + b"\r\n", pack(b"PUBLISH", b"a", b"b")) == b"<closed>"
    ours.socket.close()


glyphs = st.sampled_from(
    [b"a", b"b", b"*", b"?", b"[", b"]", b"^", b"-", b"\\", b"\x00", b"\xff", b"\x80"]
)


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(glyphs, max_size=7).map(b"".join),
    st.lists(
        st.sampled_from([b"a", b"b", b"]", b"-", b"^", b"\x00", b"\xff", b"\x80"]), max_size=5
    ).map(b"".join),
)
def test_patterns_match_as_in_redis(pair: Pair, pattern: bytes, channel: bytes) -> None:
    """Any pattern, any channel: the same verdict as Redis."""
    subscriber, publisher = Raw(pair.redis), Raw(pair.redis)
    subscriber.ask(pack(b"PSUBSCRIBE", pattern))
    receivers = publisher.ask(pack(b"PUBLISH", channel, b""))
    subscriber.socket.close()
    publisher.socket.close()

    assert (receivers == b":1\r\n") is compile_pattern(pattern)(channel)
