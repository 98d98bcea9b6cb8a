"""TLS over transports in memory, however little they take and give."""

import random
import ssl

import pytest
import trio
import trustme

from fanout.core.outbox import Outbox
from fanout.runtime.sender import Sender
from fanout.runtime.tls import TlsTransport
from fanout.runtime.transport import Transport
from fanout.testing.network import MemoryNetwork
from fanout.values import Endpoint

HERE = Endpoint("door", 1)


def contexts(name: str = "door") -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return a server's and a client's context that trust each other."""
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


async def pair(network: MemoryNetwork) -> tuple[Transport, Transport]:
    """Return both ends of a connection."""
    listener = await network.bind(HERE)
    listener.listen()
    client = await network.connect(HERE)
    return client, await listener.accept()


async def read_all(transport: Transport) -> bytes:
    """Read until the end."""
    found = b""
    while data := await transport.receive_some(1000):
        found += data
    return found


@pytest.mark.parametrize("bytes_max", [1, 7, 65_536])
@pytest.mark.parametrize("buffer", [3, 65_536])
async def test_bytes_arrive_as_they_were_sent(
    bytes_max: int, buffer: int, autojump_clock: trio.testing.MockClock
) -> None:
    """Both ways, through a network that takes and gives a few bytes at a time."""
    server_context, client_context = contexts()
    network = MemoryNetwork(receive_bytes_max=bytes_max, buffer_bytes_max=buffer)
    inner_client, inner_server = await pair(network)
    client = TlsTransport(inner_client, client_context, server_hostname="door")
    server = TlsTransport(inner_server, server_context)
    payload = random.Random(1).randbytes(5_000)
    assert client.send_nowait(b"too early") == 0

    async def answer() -> None:
        outbox = Outbox(1_000_000)
        sender = Sender(server, outbox)
        assert await server.receive_some(5) == b"hello"
        outbox.append(payload)
        async with trio.open_nursery() as pump:
            sender.start(pump)
            outbox.append(b"end")
            sender.flush()
        await sender.drain()
        server.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        await client.handshake()
        assert client.send_nowait(b"hello") == 5
        while client.unsent:
            await client.wait_sendable()
        received = await read_all(client)
    assert received == payload + b"end"
    client.close()


async def test_a_certificate_for_another_name_is_refused(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Both sides learn it, and no byte of anybody's passes."""
    server_context, client_context = contexts("elsewhere")
    inner_client, inner_server = await pair(MemoryNetwork())
    client = TlsTransport(inner_client, client_context, server_hostname="door")
    server = TlsTransport(inner_server, server_context)

    async def serve() -> None:
        with pytest.raises(OSError, match="TLS: "):
            await server.receive_some(5)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        with pytest.raises(OSError, match="Hostname mismatch"):
            await client.handshake()
        client.close()
    assert server.send_nowait(b"x") == 0


@pytest.mark.parametrize(
    "said", [b"PING\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff", b""]
)
async def test_who_does_not_speak_tls_gets_nothing(
    said: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    """The connection ends with an error of the network, or the end of the stream."""
    server_context, _ = contexts()
    inner_client, inner_server = await pair(MemoryNetwork())
    server = TlsTransport(inner_server, server_context)
    inner_client.send_nowait(said + b"x" * 65_000)
    inner_client.close()
    with pytest.raises(OSError, match="TLS: "):
        await server.receive_some(5)
    server.close()
