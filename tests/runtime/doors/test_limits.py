"""Every limit of the doors at its default: what fits is done, one more is not, others notice nothing.

A test is named for the option whose limit it hits.
"""

from functools import partial
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from fanout.config import Limits
from fanout.errors import CommandFailed
from fanout.testing.network import MemoryNetwork
from fanout.testing.stream import MemoryTransport
from fanout.values.names import Endpoint
from fanout.wire.redis.client import pack
from fanout.wire.resp.replies import messages2
from tests.support.runtime.fleet import Client, MemoryFleet, until
from tests.support.runtime.neighbours import RESP, WS, beside_a_neighbour, rest_of, say
from tests.support.runtime.ws_client import WsConnection, open_websocket
from tests.support.wire.rfc6455 import BINARY, HANDSHAKE, TEXT, frame, header, sent_frames

MESSAGE = b"x" * 65_536


async def door(fleet: MemoryFleet, port: int, request: str = "") -> MemoryTransport:
    """Connect to a door and ask for something; return the connection once there is an answer."""
    transport = await fleet.network.connect(Endpoint("sidecar-1", port))
    if port == WS:
        await say(transport, HANDSHAKE)
        while b'"hello"' not in await transport.receive_some(65_536):
            pass
        await say(transport, frame(TEXT, request.encode()))
    else:
        await say(transport, pack(b"SUBSCRIBE", b"c"))
    await transport.receive_some(65_536)
    return transport


SUBSCRIBE = '{"op":"subscribe","channels":["c"],"id":1}'


def messages_in(port: int, said: bytes) -> tuple[int, bytes]:
    """Count whole deliveries at the start of what was said; return also what comes behind them."""
    if port == RESP:
        one = messages2(b"c", [MESSAGE])
        count = said.count(one)
        return count, said[count * len(one) :]
    frames = [payload for _, payload in sent_frames(said)]
    heard = [each for each in frames if MESSAGE in each]
    assert frames[: len(heard)] == heard
    return len(heard), b"".join(frames[len(heard) :])


FAREWELL = {
    RESP: b"-ERR slow_consumer: %b\r\n",
    WS: (4008).to_bytes(2) + b"slow_consumer: %b",
}


@pytest.mark.parametrize("port", [RESP, WS])
async def test_outbox_bytes_max(port: int, autojump_clock: MockClock) -> None:
    """A client with a little less queued gets it all; with more, whole messages and the reason."""
    limit = Limits().outbox_bytes_max
    fitting = limit // (len(MESSAGE) + 100)
    async with beside_a_neighbour() as fleet:
        publisher = await fleet.client("sidecar-1")
        within = await door(fleet, port, SUBSCRIBE)
        for _ in range(fitting):
            assert await publisher.publish(b"c", MESSAGE) == 1
        heard = b""
        with trio.move_on_after(1):
            while True:
                heard += await within.receive_some(1_000_000)
        assert messages_in(port, heard) == (fitting, b"")
        within.close()

        over = await door(fleet, port, SUBSCRIBE)
        await trio.sleep(0.01)
        published = 0
        while await publisher.publish(b"c", MESSAGE):
            published += 1
        assert fitting < published < fitting + 5
        count, rest = messages_in(port, await rest_of(over))
        assert 0 < count < fitting
        assert rest == FAREWELL[port] % (b"outbox exceeds %d bytes" % limit)


@pytest.mark.parametrize("port", [RESP, WS])
async def test_write_timeout_seconds(port: int, autojump_clock: MockClock) -> None:
    """A client that takes nothing has so long; one that takes a little now and then stays."""
    async with beside_a_neighbour(network=MemoryNetwork(buffer_bytes_max=10_000)) as fleet:
        publisher = await fleet.client("sidecar-1")
        still, slow = await door(fleet, port, SUBSCRIBE), await door(fleet, port, SUBSCRIBE)
        began = trio.current_time()
        assert await publisher.publish(b"c", MESSAGE) == 2
        ended = trio.Event()

        async def take_little() -> None:
            for _ in range(2):
                await trio.sleep(9)
                await slow.receive_some(100)
            ended.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take_little)
            while await publisher.publish(b"c", b"") == 2:  # noqa: ASYNC110 - it is a question
                await trio.sleep(0.1)
            assert 10 <= trio.current_time() - began < 10.5
            await ended.wait()
            assert await publisher.publish(b"c", b"") == 1
        await rest_of(still)


async def refused(client: Client, *request: bytes) -> str:
    """Return the error that a request gets; the connection must go on."""
    with pytest.raises(CommandFailed) as caught:
        await client.link.call(*request)
    assert await client.link.call("PING") == b"PONG"
    return str(caught.value)


async def subscribe(client: Client, verb: bytes, names: list[bytes]) -> None:
    """Subscribe to names by one command."""
    client.link.submit_subscription(verb, tuple(names))
    client.link.flush()
    await until(lambda: client.link.in_flight == 0)
    assert not client.link.lost


def names(count: int, prefix: str = "") -> list[bytes]:
    """Return so many names."""
    return [f"{prefix}{number}*".encode() for number in range(count)]


async def ask_names(client: WsConnection, op: str, field: str, names: list[bytes]) -> Any:
    """Subscribe by one request and return the answer."""
    await say(client.transport, frame(TEXT, request_text(op, field, names)))
    return await client.next()


def request_text(op: str, field: str, names: list[bytes]) -> bytes:
    """Return a request about names."""
    listed = b",".join(b'"%b"' % name for name in names)
    return b'{"op":"%b","%b":[%b],"id":1}' % (op.encode(), field.encode(), listed)


async def test_subscriptions_max(autojump_clock: MockClock) -> None:
    """At one door by one command, at the other by the requests that it takes."""
    limit = Limits().subscriptions_max
    async with beside_a_neighbour() as fleet:
        client = await fleet.client("sidecar-1")
        await subscribe(client, b"SUBSCRIBE", names(limit))
        assert "(subscriptions-max)" in await refused(client, b"SUBSCRIBE", b"more")
        websocket = await open_websocket(fleet.network, "sidecar-1")
        for start in range(0, limit, 1024):
            part = names(limit)[start : start + 1024]
            assert (await ask_names(websocket, "subscribe", "channels", part))["type"] == "ok"
        answer = await ask_names(websocket, "subscribe", "channels", [b"more"])
        assert answer["code"] == "too_many_subscriptions"
        publisher = await fleet.client("sidecar-1")
        assert await publisher.publish(names(limit)[-1], b"x") == 2
        assert (await websocket.next())["data"] == "x"


async def test_patterns_max_and_distinct_patterns_max(autojump_clock: MockClock) -> None:
    """Of one client, and of all; a client that leaves makes room."""
    each, all_ = Limits().patterns_max, Limits().distinct_patterns_max
    async with beside_a_neighbour() as fleet:
        clients = [await fleet.client("sidecar-1") for _ in range(all_ // each)]
        websocket = await open_websocket(fleet.network, "sidecar-1")
        for number, client in enumerate(clients):
            await subscribe(client, b"PSUBSCRIBE", names(each, f"{number}-"))
            assert "(patterns-max)" in await refused(client, b"PSUBSCRIBE", b"more*")
        late = await fleet.client("sidecar-1")
        assert "(distinct-patterns-max)" in await refused(late, b"PSUBSCRIBE", b"more*")
        answer = await ask_names(websocket, "psubscribe", "patterns", [b"more*"])
        assert answer["code"] == "too_many_subscriptions"
        await subscribe(late, b"PSUBSCRIBE", names(each, "0-"))
        clients[1].link.close("enough")
        await trio.sleep(0.1)
        answer = await ask_names(websocket, "psubscribe", "patterns", names(each, "new-"))
        assert answer["type"] == "ok"
        assert await late.publish(b"new-5.", b"x") == 1
        assert (await websocket.next())["pattern"] == "new-5*"


async def test_arguments_max(autojump_clock: MockClock) -> None:
    """As many words as one may subscribe to by one command; one more ends the connection."""
    limit = Limits().arguments_max
    async with beside_a_neighbour() as fleet:
        client = await fleet.client("sidecar-1")
        await subscribe(client, b"SUBSCRIBE", [b"c"] * (limit - 1))
        other = await fleet.network.connect(Endpoint("sidecar-1", RESP))
        await say(other, b"*%d\r\n" % (limit + 1))
        assert await rest_of(other) == b"-ERR Protocol error: invalid multibulk length\r\n"


async def test_channel_bytes_max(autojump_clock: MockClock) -> None:
    """To subscribe and to publish, at both doors; the connection goes on."""
    longest = b"n" * Limits().channel_bytes_max
    async with beside_a_neighbour() as fleet:
        client = await fleet.client("sidecar-1")
        websocket = await open_websocket(fleet.network, "sidecar-1")
        await subscribe(client, b"SUBSCRIBE", [longest])
        await subscribe(client, b"PSUBSCRIBE", [longest])
        assert (await ask_names(websocket, "subscribe", "channels", [longest]))["type"] == "ok"
        assert await client.publish(longest, b"x") == 3
        assert (await websocket.next())["data"] == "x"
        for verb in (b"SUBSCRIBE", b"PSUBSCRIBE", b"SSUBSCRIBE"):
            assert "(channel-bytes-max)" in await refused(client, verb, longest + b"n")
        assert "(channel-bytes-max)" in await refused(client, b"PUBLISH", longest + b"n", b"x")
        answer = await ask_names(websocket, "subscribe", "channels", [longest + b"n"])
        assert answer["code"] == "name_too_long"
        assert (await websocket.publish(longest + b"n", b"x"))["code"] == "name_too_long"


async def test_payload_bytes_max(autojump_clock: MockClock) -> None:
    """To the byte, at both doors; what is far larger is not read, and ends the connection."""
    limit = Limits().payload_bytes_max
    async with beside_a_neighbour() as fleet:
        client, listener = await fleet.client("sidecar-1"), await fleet.client("sidecar-1")
        await listener.subscribed(b"c")
        websocket = await open_websocket(fleet.network, "sidecar-1")
        for size in (0, 1, limit - 1, limit):
            payload = bytes(range(256)) * (size // 256) + b"y" * (size % 256)
            assert await client.publish(b"c", payload) == 1
            assert (await publish(websocket, payload))["receivers"] == 1
            await until(lambda: len(listener.received) == 2)
            assert listener.received == [(b"c", payload)] * 2
            listener.received.clear()
        over = b"x" * (limit + 1)
        assert "(payload-bytes-max)" in await refused(client, b"PUBLISH", b"c", over)
        assert (await publish(websocket, over))["code"] == "message_too_large"
        assert (await publish(websocket, b"small"))["receivers"] == 1
        with pytest.raises(CommandFailed, match="invalid bulk length"):
            await client.publish(b"c", b"x" * (2 * limit))
        await until(lambda: client.link.lost)
        await say(websocket.transport, header(BINARY, 7 * limit))
        assert await websocket.end() == 1009


async def publish(client: WsConnection, payload: bytes) -> Any:
    """Publish by a binary frame of any size and return the answer."""
    await say(client.transport, frame(BINARY, b"\x02\0\0\0\1\0\1c" + payload))
    return await client.next()


async def test_transaction_bytes_max(autojump_clock: MockClock) -> None:
    """A command that does not fit fails the transaction, and none of its commands is executed."""
    limit, payload = Limits().transaction_bytes_max, b"x" * Limits().payload_bytes_max
    async with beside_a_neighbour() as fleet:
        client, listener = await fleet.client("sidecar-1"), await fleet.client("sidecar-1")
        await listener.subscribed(b"c")
        for fits, count in ((True, limit // len(payload) - 1), (False, limit // len(payload))):
            await client.link.call("MULTI")
            for _ in range(count):
                last = partial(client.link.call, "PUBLISH", "c", payload)
                if fits or _ < count - 1:
                    assert await last() == b"QUEUED"
            if fits:
                assert await client.link.call("EXEC") == [1] * count
            else:
                with pytest.raises(CommandFailed, match="transaction-bytes-max"):
                    await last()
                with pytest.raises(CommandFailed, match="EXECABORT"):
                    await client.link.call("EXEC")
        assert listener.received == [(b"c", payload)] * (limit // len(payload) - 1)


@pytest.mark.parametrize(
    ("port", "opening", "refusal"),
    [
        (RESP, b"PING\r\n", b"-ERR max number of clients reached\r\n"),
        (WS, HANDSHAKE, b"HTTP/1.1 503 "),
    ],
)
async def test_clients_max(
    *, port: int, opening: bytes, refusal: bytes, autojump_clock: MockClock
) -> None:
    """One more gets an error; when one leaves there is room for one."""
    address = Endpoint("sidecar-1", port)
    async with beside_a_neighbour() as fleet:

        async def newcomer() -> tuple[MemoryTransport, bytes]:
            transport = await fleet.network.connect(address)
            transport.send_nowait(opening)
            return transport, await transport.receive_some(65_536)

        there = []
        for _ in range(Limits().clients_max - 1):
            there.append(await fleet.network.connect(address))  # beside the neighbour
            there[-1].send_nowait(opening)
            await trio.sleep(0.001)
        assert not (await there[-1].receive_some(65_536)).startswith(refusal)
        assert (await newcomer())[1].startswith(refusal)
        there.pop().close()
        await trio.sleep(0.1)
        _, said = await newcomer()
        assert said and not said.startswith(refusal)
        assert (await newcomer())[1].startswith(refusal)


@pytest.mark.parametrize("port", [RESP, WS])
async def test_connects_per_second_max(port: int, autojump_clock: MockClock) -> None:
    """A crowd of clients is let in completely, at that rate."""
    rate = Limits().connects_per_second_max
    async with beside_a_neighbour() as fleet:
        began = trio.current_time()
        came: list[float] = []

        async def come() -> None:
            transport = await fleet.network.connect(Endpoint("sidecar-1", port))
            transport.send_nowait(b"PING\r\n" if port == RESP else HANDSHAKE)
            assert await transport.receive_some(65_536)
            came.append(trio.current_time() - began)
            transport.close()

        async with trio.open_nursery() as nursery:
            for _ in range(rate):
                nursery.start_soon(come)
        for number, at in enumerate(sorted(came)):
            assert number <= rate * (at + 0.1) + 1  # a tenth of a second's may come at once
        assert 0.8 < max(came) < 1


def test_every_option_has_a_test() -> None:
    """It is named for it."""
    tested = "".join(name for name in globals() if name.startswith("test_"))

    assert [name for name in attrs.fields_dict(Limits) if name not in tested] == []
