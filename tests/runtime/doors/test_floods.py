"""What clients do wrong in great numbers: each is served or refused, and the log stays short."""

import base64
import errno
import os
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
from trio.testing import MockClock

from fanout.config import Limits
from fanout.core.throttle import BURST, INTERVAL_SECONDS
from fanout.runtime.doors.ws_connection import HANDSHAKE_SECONDS
from fanout.runtime.net.accept import accept_clients
from fanout.runtime.net.transport import Listener, Transport
from fanout.testing.network import MemoryNetwork
from fanout.values.names import Endpoint
from fanout.wire.redis.client import pack
from tests.support.runtime.fleet import memory_fleet
from tests.support.runtime.users import users_file
from tests.support.wire.rfc6455 import HANDSHAKE, TEXT, frame, header

RESP, WS = 6380, 7380
CLIENTS_MAX = 50
FLOOD = 300


async def said_to(network: MemoryNetwork, port: int, sent: bytes) -> bytes:
    """Connect, send, and return what is said until the end of the connection."""
    transport = await network.connect(Endpoint("sidecar-1", port))
    said = b""
    try:
        if sent:
            transport.send_nowait(sent)
        while data := await transport.receive_some(65_536):
            said += data
    except trio.BrokenResourceError:
        pass
    finally:
        transport.close()
    return said


def asking(header: bytes, *frames: bytes) -> bytes:
    """Return a handshake with one more header, and frames behind it."""
    return HANDSHAKE.replace(b"Host: h\r\n", b"Host: h\r\n" + header) + b"".join(frames)


QUIT = pack(b"QUIT")
CLOSED = frame(8, b"\x03\xe8")
AUTH = frame(TEXT, b'{"op":"auth","token":"guess"}')
TOKEN = base64.urlsafe_b64encode(b"guess").rstrip(b"=")
MISDEEDS = {
    "http": (RESP, b"POST / HTTP/1.1\r\nHost: h\r\n\r\n", "consumer_failed", b""),
    "no number": (RESP, b"*x\r\n", "consumer_failed", b"-ERR Protocol error: "),
    "tls": (RESP, b"\x16\x03\x01\x02\x00", "consumer_failed", b"-ERR Protocol error: "),
    "auth": (RESP, pack(b"AUTH", b"u", b"guess") + QUIT, "login_failed", b"-WRONGPASS "),
    "hello": (RESP, pack(*b"HELLO 3 AUTH \xff\n x".split(b" ")) + QUIT, "login_failed", b"-WRONGPASS "),
    "no websocket": (WS, b"*1\r\n$4\r\nPING\r\n", "consumer_failed", b"HTTP/1.1 400 "),
    "origin": (WS, asking(b"Origin: http://evil\r\n"), "consumer_failed", b"HTTP/1.1 403 "),
    "slow handshake": (WS, HANDSHAKE[:30], "consumer_failed", b""),
    "reserved bits": (WS, HANDSHAKE + frame(TEXT, b"x", rsv=7), "consumer_failed", b"HTTP/1.1 101 "),
    "2**63": (WS, HANDSHAKE + header(2, 2**63), "consumer_failed", b"HTTP/1.1 101 "),
    "token": (WS, HANDSHAKE + AUTH + CLOSED, "login_failed", b"HTTP/1.1 101 "),
    "token header": (WS, asking(b"Authorization: Bearer guess\r\n", CLOSED), "login_failed", b"HTTP/1.1 101 "),
    "token offered": (
        WS,
        asking(b"Sec-WebSocket-Protocol: fanout.token." + TOKEN + b"\r\n", CLOSED),
        "login_failed",
        b"HTTP/1.1 101 ",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISDEEDS)
async def test_a_flood_is_a_few_lines_that_count_it(
    name: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Every one is answered, and every one is in the log: as a line, or counted by one."""
    port, sent, event, answer = MISDEEDS[name]
    async with memory_fleet(nodes=1, sidecars=0) as fleet:
        await fleet.sidecar("sidecar-1", users=users_file(tmp_path))
        began = trio.current_time()
        answers: list[bytes] = []

        async def misbehave() -> None:
            answers.append(await said_to(fleet.network, port, sent))

        with structlog.testing.capture_logs() as logs:
            async with trio.open_nursery() as nursery:
                for _ in range(FLOOD):
                    nursery.start_soon(misbehave)
            took = trio.current_time() - began
            await trio.sleep(BURST * INTERVAL_SECONDS)
            await misbehave()

    lines = [log for log in logs if log["event"] == event]
    assert len(answers) == FLOOD + 1
    assert all(each.startswith(answer) for each in answers)
    assert len(lines) <= BURST + took / INTERVAL_SECONDS + 2
    assert sum(line["suppressed"] + 1 for line in lines) == FLOOD + 1
    assert all(str(value).isprintable() for line in lines for value in line.values())
    assert "guess" not in str(logs)


@pytest.mark.parametrize(
    ("port", "refusal"), [(RESP, b"-ERR max number of clients reached\r\n"), (WS, b"HTTP/1.1 503 ")]
)
async def test_too_many_clients_are_refused_in_a_few_lines(
    port: int, refusal: bytes, autojump_clock: MockClock
) -> None:
    """Connected clients stay; when one leaves there is room for one."""
    async with memory_fleet(nodes=1, sidecars=0) as fleet:
        await fleet.sidecar("sidecar-1", limits=Limits(clients_max=CLIENTS_MAX))
        opening = b"PING\r\n" if port == RESP else HANDSHAKE
        there = []
        for _ in range(CLIENTS_MAX):
            transport = await fleet.network.connect(Endpoint("sidecar-1", port))
            transport.send_nowait(opening)
            assert not (await transport.receive_some(100)).startswith(refusal)
            there.append(transport)
        with structlog.testing.capture_logs() as logs:
            for _ in range(FLOOD):
                assert (await said_to(fleet.network, port, b"")).startswith(refusal)
        there.pop().close()
        await trio.sleep(0.1)
        newcomer = await fleet.network.connect(Endpoint("sidecar-1", port))
        newcomer.send_nowait(opening)
        assert not (await newcomer.receive_some(100)).startswith(refusal)
        for transport in there:
            transport.send_nowait(b"PING\r\n" if port == RESP else frame(9))

    lines: list[Any] = [log for log in logs if log["event"] == "client_refused"]
    assert BURST <= len(lines) <= BURST + 1
    assert lines[0]["clients_max"] == CLIENTS_MAX


async def test_a_handshake_in_crumbs_has_five_seconds(autojump_clock: MockClock) -> None:
    """A byte now and then does not prolong it."""
    async with memory_fleet(nodes=1, sidecars=1) as fleet:
        transport = await fleet.network.connect(Endpoint("sidecar-1", WS))
        began = trio.current_time()

        async def drip() -> None:
            for byte in HANDSHAKE:
                transport.send_nowait(b"%c" % byte)
                await trio.sleep(0.5)

        with pytest.raises(trio.BrokenResourceError):
            await drip()
        assert HANDSHAKE_SECONDS <= trio.current_time() - began <= HANDSHAKE_SECONDS + 2


class FullListener:
    """A listener that has no file descriptor left for a while, or whose clients are gone again."""

    def __init__(self, inner: Listener, *errors: int) -> None:
        self.endpoint = inner.endpoint
        self.accept_at: list[float] = []
        self._errors = list(errors)
        self._inner = inner

    def listen(self) -> None:
        """Begin to take connections."""
        self._inner.listen()

    async def accept(self) -> Transport:
        """Fail as often as told, then accept."""
        await trio.lowlevel.checkpoint()
        self.accept_at.append(trio.current_time())
        if self._errors:
            number = self._errors.pop(0)
            raise OSError(number, os.strerror(number))
        return await self._inner.accept()

    def close(self) -> None:
        """Stop listening."""
        self._inner.close()


async def test_without_file_descriptors_accepting_waits_and_goes_on(
    autojump_clock: MockClock,
) -> None:
    """From 10 ms to a second between attempts, in a few log lines; connected clients are served."""
    network = MemoryNetwork()
    door = await network.bind(Endpoint("door", 1))
    listener = FullListener(door, errno.ECONNABORTED, *[errno.EMFILE] * 100)
    listener.listen()

    async def echo(transport: Transport) -> None:
        while data := await transport.receive_some(100):
            transport.send_nowait(data)

    async with trio.open_nursery() as nursery:
        with structlog.testing.capture_logs() as logs:
            began = trio.current_time()
            nursery.start_soon(
                partial(
                    accept_clients,
                    listener,
                    echo,
                    clients_max=10,
                    connects_per_second_max=100,
                    refusal=b"",
                )
            )
            client = await network.connect(door.endpoint)
            client.send_nowait(b"served")
            assert await client.receive_some(100) == b"served"
            took = trio.current_time() - began
        nursery.cancel_scope.cancel()

    waits = [after - before for before, after in pairwise(listener.accept_at)]
    assert waits[0] == 0.0
    assert waits[1:9] == pytest.approx([0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.0])
    assert max(waits) <= 1.0 + 1e-6
    assert sum(log["suppressed"] + 1 for log in logs) <= 100
    assert len(logs) <= BURST + took / INTERVAL_SECONDS
    assert {log["event"] for log in logs} == {"accept_paused"}
