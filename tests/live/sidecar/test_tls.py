"""TLS through the installed commands: at the doors, and towards discovery and nodes."""

import json
import shutil
import signal
import ssl
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import redis
import trio

from fanout.client import open_client
from fanout.runtime.redis.redis_server import free_port
from tests.support.live.authority import Authority
from tests.support.live.clients import next_data, pubsub_of
from tests.support.live.fleet import FAST, Fleet, Process, command
from tests.support.waiting import until

pytestmark = pytest.mark.live


def client(sidecar: Process, ca: Path, certificate: Path | None = None) -> redis.Redis:
    """Return a stock client that speaks TLS."""
    return redis.Redis(
        host="localhost",
        port=sidecar.port("resp"),
        ssl=True,
        ssl_ca_certs=str(ca),
        ssl_certfile=str(certificate) if certificate else None,
        ssl_keyfile=str(certificate) if certificate else None,
        socket_timeout=10,
    )


def test_every_door_speaks_tls(fleet: Fleet, tmp_path: Path) -> None:
    """And takes a new certificate on SIGHUP, while old connections go on."""
    first, second = Authority(tmp_path, "first"), Authority(tmp_path, "second")
    certificate = first.issue("door")
    fleet.add_discovery()
    fleet.node("node-0")
    sidecar = fleet.sidecar("one", "--tls-cert", str(certificate))
    assert sidecar.ready["ws"].startswith("wss://")
    assert sidecar.ready["admin"].startswith("https://")

    def health(ca: Path) -> int:
        context = ssl.create_default_context(cafile=str(ca))
        url = f"https://localhost:{sidecar.port('admin')}/healthz"
        with urlopen(url, context=context) as answer:
            return int(answer.status)

    async def by_websocket(ca: Path, receivers: int) -> None:
        context = ssl.create_default_context(cafile=str(ca))
        url = f"wss://localhost:{sidecar.port('ws')}/"
        async with open_client(url, ssl_context=context) as service:
            assert await service.publish("c", b"x" * 100_000) == receivers

    with client(sidecar, first.ca) as connection, pubsub_of(connection) as pubsub:
        pubsub.subscribe("c")
        assert pubsub.get_message(timeout=10)["type"] == "subscribe"
        assert health(first.ca) == 200
        trio.run(by_websocket, first.ca, 1)
        assert next_data(pubsub) == b"x" * 100_000

        second.issue("door")
        sidecar.popen.send_signal(signal.SIGHUP)
        until(lambda: b"certificates_reloaded" in sidecar.log.read_bytes())
        assert health(second.ca) == 200
        with pytest.raises(URLError):
            health(first.ca)
        with client(sidecar, second.ca) as new:
            assert new.publish("c", "y") == 1
        assert next_data(pubsub) == b"y"

        certificate.write_text("no certificate")
        sidecar.popen.send_signal(signal.SIGHUP)
        until(lambda: b"certificates_not_reloaded" in sidecar.log.read_bytes())
        assert health(second.ca) == 200
    plain = redis.Redis(port=sidecar.port("resp"), socket_timeout=10)
    with pytest.raises(redis.RedisError), plain:
        plain.ping()


def test_clients_may_have_to_show_a_certificate(fleet: Fleet, tmp_path: Path) -> None:
    """One that the configured authority has signed."""
    doors, clients, others = (Authority(tmp_path, name) for name in ("doors", "clients", "others"))
    fleet.add_discovery()
    fleet.node("node-0")
    sidecar = fleet.sidecar(
        "one", "--tls-cert", str(doors.issue("door")), "--tls-client-ca", str(clients.ca)
    )
    with client(sidecar, doors.ca, clients.issue("client")) as known:
        assert known.publish("c", "x") == 0
    for certificate in (None, others.issue("other")):
        stranger = client(sidecar, doors.ca, certificate)
        with pytest.raises(redis.RedisError), stranger:
            stranger.publish("c", "x")


def test_discovery_and_nodes_by_tls(fleet: Fleet, tmp_path: Path) -> None:
    """Their certificates are checked, name and all."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("needs a redis-server with TLS: apt install redis-server")
    authority, other = Authority(tmp_path, "fleet"), Authority(tmp_path, "other")
    certificate = authority.issue("redis")

    def tls_redis() -> int:
        port = free_port("127.0.0.1")
        server = fleet.start(
            binary, "--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1", "--save", "",
            "--tls-cert-file", str(certificate), "--tls-key-file", str(certificate),
            "--tls-ca-cert-file", str(authority.ca), "--tls-auth-clients", "no",
            "--dir", str(tmp_path),
        )  # fmt: skip
        if not server.says(b"Ready to accept connections"):
            pytest.skip("needs a redis-server with TLS: apt install redis-server")
        return port

    discovery = f"rediss://localhost:{tls_redis()}"
    fleet.discovery.append(discovery)
    node = fleet.start(
        command("fanout-node"), "--id", "node-0", "--redis", f"rediss://localhost:{tls_redis()}",
        "--discovery", discovery, "--tls-ca", str(authority.ca), *FAST,
    )  # fmt: skip
    node.wait_line("ready ")
    sidecar = fleet.sidecar("one", "--tls-ca", str(authority.ca))
    with (
        redis.Redis(port=sidecar.port("resp")) as connection,
        pubsub_of(connection) as pubsub,
    ):
        pubsub.subscribe("c")
        assert pubsub.get_message(timeout=10)["type"] == "subscribe"
        payload = b"x" * 1_000_000
        assert connection.publish("c", payload) == 1
        assert next_data(pubsub) == payload

    def status(ca: Path) -> tuple[int, list[str]]:
        done = fleet.start(
            command("fanout-node"),
            "status",
            "--discovery",
            discovery,
            "--tls-ca",
            str(ca),
            "--json",
        )
        said = b""
        assert done.popen.stdout is not None
        while data := done.popen.stdout.read():
            said += data
        return done.popen.wait(30), json.loads(said)["problems"]

    assert status(authority.ca) == (0, [])
    code, problems = status(other.ca)
    assert code == 1
    assert "TLS: self-signed certificate" in problems[0]
