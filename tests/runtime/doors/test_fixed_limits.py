"""The limits of the doors that no option sets: a client over one is stopped, others are not affected."""

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from fanout.runtime.doors.local_client import UNANSWERED_MAX
from fanout.runtime.doors.ws_connection import HANDSHAKE_SECONDS, LOCKED_BYTES_MAX
from fanout.runtime.sidecar.authenticator import LOCKED_OUTBOX_BYTES_MAX, LOGIN_SECONDS
from fanout.runtime.sidecar.publisher import PARKED_BYTES_MAX
from fanout.testing.network import MemoryNetwork
from fanout.values.names import Endpoint
from fanout.wire.redis.client import pack
from fanout.wire.ws.websocket import FRAGMENTS_MAX
from tests.support.runtime.fleet import TIMINGS, Client, memory_fleet, until
from tests.support.runtime.neighbours import RESP, WS, beside_a_neighbour, rest_of, say
from tests.support.runtime.users import users_file
from tests.support.runtime.ws_client import open_websocket
from tests.support.wire.rfc6455 import CONTINUATION, HANDSHAKE, TEXT, frame, header


@pytest.mark.parametrize(
    ("port", "sent", "seconds", "says"),
    [
        (RESP, b"", LOGIN_SECONDS, b"-ERR login_timeout: "),
        (RESP, b"PING\r\n", LOGIN_SECONDS, b"-ERR login_timeout: "),
        (RESP, b"*2\r\n$4\r\nAUTH\r\n", LOGIN_SECONDS, b"-ERR login_timeout: "),
        (WS, HANDSHAKE, LOGIN_SECONDS, b"login_timeout: "),
        (WS, HANDSHAKE + frame(9), LOGIN_SECONDS, b"login_timeout: "),
        (WS, HANDSHAKE[:-1], HANDSHAKE_SECONDS, b""),
    ],
)
async def test_who_does_not_log_in(
    *,
    port: int,
    sent: bytes,
    seconds: float,
    says: bytes,
    tmp_path: Path,
    autojump_clock: MockClock,
) -> None:
    """Five seconds, whatever is said meanwhile; a client that has logged in stays."""
    async with memory_fleet(nodes=1, sidecars=0) as fleet:
        await fleet.sidecar("sidecar-1", users=users_file(tmp_path))
        neighbour = await fleet.client("sidecar-1", "u", "s")
        stranger = await fleet.network.connect(Endpoint("sidecar-1", port))
        began = trio.current_time()
        await say(stranger, sent)
        said = await rest_of(stranger)
        # A websocket client has a second more, to read the Close frame.
        assert seconds == 5 <= trio.current_time() - began < seconds + 1.1
        assert says in said
        assert await neighbour.publish(b"c", b"x") == 0


@pytest.mark.parametrize(
    ("port", "sent", "says"),
    [
        (RESP, b"*11\r\n", b"unauthenticated multibulk length"),
        (RESP, b"*2\r\n$4\r\nAUTH\r\n$16385\r\n", b"unauthenticated bulk length"),
        (RESP, pack(b"PING") * 1000, b"slow_consumer: "),
        (WS, HANDSHAKE + header(TEXT, LOCKED_BYTES_MAX + 1), (1009).to_bytes(2)),
        (WS, HANDSHAKE + frame(TEXT, b"?") * 1000, (4008).to_bytes(2)),
    ],
)
async def test_what_a_stranger_may_say(
    *, port: int, sent: bytes, says: bytes, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Small requests and small replies; clients that have logged in may send and receive more."""
    network = MemoryNetwork(buffer_bytes_max=1 << 20)
    async with memory_fleet(nodes=1, sidecars=0, network=network) as fleet:
        await fleet.sidecar("sidecar-1", users=users_file(tmp_path))
        neighbour = await fleet.client("sidecar-1", "u", "s")
        stranger = await network.connect(Endpoint("sidecar-1", port))
        await say(stranger, sent)
        said = await rest_of(stranger)
        assert says in said
        assert len(said) < LOCKED_OUTBOX_BYTES_MAX + 1000
        await neighbour.subscribed(*[b"%d" % number for number in range(100)])
        assert await neighbour.publish(b"7", b"x" * 100_000) == 1


async def test_fragments(autojump_clock: MockClock) -> None:
    """A message may have 1024 frames; the next one ends the connection before it is read."""
    request = b'{"op":"ping","id":1}'
    async with beside_a_neighbour() as fleet:
        client = await open_websocket(fleet.network, "sidecar-1")
        empty = frame(CONTINUATION, fin=False)
        first, last = frame(TEXT, request, fin=False), frame(CONTINUATION)
        await say(client.transport, first + empty * (FRAGMENTS_MAX - 2) + last)
        assert await client.next() == {"type": "ok", "id": 1}
        await say(client.transport, first + empty * (FRAGMENTS_MAX - 1) + frame(CONTINUATION)[:2])
        assert await client.end() == 1009
        assert FRAGMENTS_MAX == 1024


async def test_requests_that_wait_for_their_answers(autojump_clock: MockClock) -> None:
    """Past the limit a client's requests are not read; once replies are sent, all are executed."""
    count = UNANSWERED_MAX + 20_000
    async with memory_fleet(nodes=1, sidecars=1) as fleet:
        greedy, neighbour = await fleet.client("sidecar-1"), await fleet.client("sidecar-1")
        fleet.network.freeze(fleet.redis["node-1"].endpoint)
        for _ in range(count):
            greedy.publish_soon(b"c", b"x")
        await trio.sleep(1)
        assert greedy.link._outbox.size > 15_000 * len(pack(b"PUBLISH", b"c", b"x"))
        assert await neighbour.link.call("PING") == b"PONG"
        fleet.network.thaw(fleet.redis["node-1"].endpoint)
        await until(lambda: len(greedy.outcomes) == count)
        assert {answer for _, answer in greedy.outcomes} == {0}


async def test_messages_that_wait_for_a_node(autojump_clock: MockClock) -> None:
    """So many bytes are held while there is no node; what is over it is refused at once."""
    payload = b"x" * 1_000_000
    fitting = PARKED_BYTES_MAX // len(payload)
    async with memory_fleet(nodes=1, sidecars=1) as fleet:
        greedy, neighbour = await fleet.client("sidecar-1"), await fleet.client("sidecar-1")
        fleet.kill(fleet.redis["node-1"])
        await trio.sleep(0.1)
        for _ in range(fitting + 5):
            other: Client = await fleet.client("sidecar-1")
            other.outcomes = greedy.outcomes
            other.publish_soon(b"c", payload)
        await trio.sleep(0.1)
        refusals = [str(answer) for _, answer in greedy.outcomes]
        assert len(refusals) == 5
        assert all("the queue of waiting publishes is full" in each for each in refusals)
        assert await neighbour.link.call("PING") == b"PONG"
        await trio.sleep(TIMINGS.publish_timeout_seconds)
        assert len(greedy.outcomes) == fitting + 5
