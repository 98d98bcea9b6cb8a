"""The RESP door's pure parts against a real redis-server: same bytes."""

import socket
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fanout.core.glob import compile_pattern
from fanout.errors import RemoteProtocolError
from fanout.runtime.redis_server import find_redis_server
from fanout.values import Close, Publish, Reply, Reset, Subscribe, Unsubscribe
from fanout.wire.replies import pack
from fanout.wire.requests import RequestDecoder, RequestLimits
from fanout.wire.session import Session
from tests.live.conftest import Fleet

pytestmark = pytest.mark.live


class Raw:
    """A raw connection that reads until an answer to a mark."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)

    def ask(self, data: bytes) -> bytes:
        """Send bytes; return what is answered before an ECHO-like mark, or until the close."""
        mark = b"mark-7f3a"
        self.socket.sendall(data + pack(b"PING", mark))
        answer = b""
        while mark not in answer:
            got = self.socket.recv(65536)
            if not got:
                return answer
            answer += got
        for tail in (b"*2\r\n$4\r\npong\r\n$9\r\n%b\r\n" % mark, b"$9\r\n%b\r\n" % mark):
            answer = answer.removesuffix(tail)
        return answer


@pytest.fixture
def port(fleet: Fleet) -> int:
    """Return the port of a plain redis-server, whose words must be those of Redis 7."""
    version = subprocess.run(
        [find_redis_server(), "--version"], capture_output=True, text=True, check=True
    ).stdout
    if int(version.split("v=")[1].split(".")[0]) < 7:
        pytest.skip("needs redis-server 7 or newer: apt install redis-server")
    return fleet.redis()[1]


def replies(session: Session, requests: list[list[bytes]]) -> bytes:
    """Return what a session answers when every publish reaches nobody."""
    answer = b""
    for request in requests:
        match session.handle(request):
            case Publish():
                answer += b":0\r\n"
            case Reply(data):
                answer += data
            case Subscribe() | Unsubscribe() | Reset() | Close() as action:
                answer += action.reply
    return answer


TABLE = [
    b"PING", b"PING x", b"PING x y", b"SUBSCRIBE", b"PUBLISH a", b"PUBLISH a b",
    b"SUBSCRIBE a b a", b"PSUBSCRIBE a* a*", b"UNSUBSCRIBE nope", b"PING", b"PING z",
    b"UNSUBSCRIBE a", b"PUNSUBSCRIBE", b"UNSUBSCRIBE b", b"UNSUBSCRIBE", b"PUNSUBSCRIBE", b"PING",
    b"HELLO 4", b"HELLO x", b"HELLO 3 SETNAME", b"SELECT 0", b"SELECT x", b"SELECT 99",
    b"CLIENT SETNAME me", b"CLIENT GETNAME", b"CLIENT ID x", b"CLIENT NOPE",
    b"RESET", b"CLIENT GETNAME", b"nope a b c",
]  # fmt: skip


@pytest.mark.parametrize("prefix", [[], [b"HELLO 3"]], ids=["resp2", "resp3"])
def test_replies_equal_redis(port: int, prefix: list[bytes]) -> None:
    """One script, told to both: the same bytes for every request."""
    raw, session = Raw(port), Session(1)
    for line in prefix:
        raw.ask(pack(*line.split()))
        session.handle(line.split())
    different = []
    for line in TABLE:
        request = line.split()
        expected, got = raw.ask(pack(*request)), replies(session, [request])
        if expected != got:
            different.append((line, expected, got))

    raw.socket.close()

    assert not different, "\n".join(map(str, different))


@pytest.mark.parametrize(
    "data",
    [
        b"*x\r\n",
        b"*1\r\n:1\r\n",
        b"*1\r\n$x\r\n",
        b"*1\r\n$-1\r\n",
        b"*99999999999\r\n",
        b"*1\r\n$999999999999\r\n",
    ],
)
def test_protocol_errors_equal_redis(port: int, data: bytes) -> None:
    """A client that breaks the protocol is told so in Redis' words, then disconnected."""
    raw = Raw(port)
    decoder = RequestDecoder(RequestLimits())
    decoder.feed(data)
    with pytest.raises(RemoteProtocolError) as caught:
        decoder.next_request()

    expected = raw.ask(data)
    raw.socket.close()

    assert expected == caught.value.reply


pieces = st.sampled_from(
    [b"a", b"b", b"*", b"?", b"[", b"]", b"^", b"-", b"\\", b"\x00", b"\xff", b"\x80"]
)


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(pieces, max_size=7).map(b"".join),
    st.lists(
        st.sampled_from([b"a", b"b", b"]", b"-", b"^", b"\x00", b"\xff", b"\x80"]), max_size=5
    ).map(b"".join),
)
def test_patterns_match_as_in_redis(port: int, pattern: bytes, channel: bytes) -> None:
    """Any pattern, any channel: the same verdict as Redis."""
    raw, other = Raw(port), Raw(port)
    raw.ask(pack(b"PSUBSCRIBE", pattern))
    receivers = other.ask(pack(b"PUBLISH", channel, b""))
    raw.socket.close()
    other.socket.close()

    assert (receivers == b":1\r\n") is compile_pattern(pattern)(channel)
