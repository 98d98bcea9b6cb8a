"""TLS over transports in memory, however little they take and give."""

import random
import ssl
from pathlib import Path

import pytest
import structlog
import trio
import trustme

from fanout.config import TlsFiles
from fanout.core.outbox import Outbox
from fanout.core.throttle import BURST
from fanout.errors import ConfigError
from fanout.runtime.net.certificates import Contexts
from fanout.runtime.net.sender import Sender
from fanout.runtime.net.tls import HANDSHAKE_SECONDS, TlsListener, TlsTransport
from fanout.runtime.net.transport import Transport
from fanout.testing.network import MemoryNetwork
from fanout.values.names import Endpoint
from tests.support.runtime.network import pair

HERE = Endpoint("door", 1)


def contexts(name: str = "door") -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return a server's and a client's context that trust each other."""
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


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
            with sender.sending(pump):
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
    """Both sides get an error, and no data passes."""
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


async def test_a_flood_of_plain_talk_is_a_few_lines(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Each gets an error; a mere disconnect is not logged, a silent client is not waited for."""
    network = MemoryNetwork()
    server_context, _ = contexts()
    listener = TlsListener(await network.bind(HERE), server_context)
    listener.listen()

    async def reason(sent: bytes, *, close: bool = False) -> str:
        client = await network.connect(listener.endpoint)
        server = await listener.accept()
        client.send_nowait(sent)
        if close:
            client.close()
        with pytest.raises(OSError, match="TLS: ") as caught:
            await server.receive_some(100)
        server.close()
        return str(caught.value)

    with structlog.testing.capture_logs() as logs:
        for _ in range(100):
            assert await reason(b"", close=True)
        assert logs == []
        for _ in range(100):
            assert await reason(b"*1\r\n$4\r\nPING\r\n") != "TLS: handshake timeout"
        assert len(logs) == BURST
        began = trio.current_time()
        assert await reason(b"\x16\x03\x01") == "TLS: handshake timeout"
        assert trio.current_time() - began == pytest.approx(HANDSHAKE_SECONDS)
    assert logs[-1] == {
        "event": "consumer_failed", "code": "tls", "consumer": "client of door:1",
        "reason": "handshake timeout", "suppressed": 100 - BURST, "log_level": "warning",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("certificate", "key", "words"),
    [
        ("none", "", "tls-cert: cannot be read: No such file"),
        ("door", "none", "tls-key: cannot be read: No such file"),
        ("none", "none", "tls-cert: cannot be read: No such file"),
        ("text", "door", "tls-cert: not a certificate and its key: "),
        ("door", "text", "tls-key: not the key of the certificate: "),
        ("door", "other", "tls-key: not the key of the certificate: key values mismatch"),
        ("ca", "", "tls-cert: not a certificate and its key: "),
    ],
)
def test_the_file_that_is_wrong_is_named(
    certificate: str, key: str, words: str, tmp_path: Path
) -> None:
    """Certificate and key may be two files, and OpenSSL does not say which of them it means."""
    authority = trustme.CA()
    for name in ("door", "other"):
        issued = authority.issue_cert(name).private_key_and_cert_chain_pem
        issued.write_to_path(tmp_path / name)
    authority.cert_pem.write_to_path(tmp_path / "ca")
    (tmp_path / "text").write_text("no PEM")
    files = TlsFiles(
        tls_cert=str(tmp_path / certificate), tls_key=str(tmp_path / key) if key else ""
    )

    with pytest.raises(ConfigError) as caught:
        Contexts(files)
    assert str(caught.value).startswith(words)


def test_what_both_sides_insist_on(tmp_path: Path) -> None:
    """TLS 1.2 at least, and a certificate for the name, however little is configured."""
    authority = trustme.CA()
    door, ca = tmp_path / "door.pem", tmp_path / "ca.pem"
    authority.issue_cert("door").private_key_and_cert_chain_pem.write_to_path(door)
    authority.cert_pem.write_to_path(ca)
    plain = Contexts(TlsFiles(tls_cert=str(door)))
    strict = Contexts(TlsFiles(tls_cert=str(door), tls_client_ca=str(ca), tls_ca=str(ca)))
    for contexts in (plain, strict):
        assert contexts.server is not None
        assert contexts.server.minimum_version >= ssl.TLSVersion.TLSv1_2
        assert contexts.client.minimum_version >= ssl.TLSVersion.TLSv1_2
        assert contexts.client.verify_mode is ssl.CERT_REQUIRED
        assert contexts.client.check_hostname
    assert plain.server is not None and plain.server.verify_mode is ssl.CERT_NONE
    assert strict.server is not None and strict.server.verify_mode is ssl.CERT_REQUIRED
