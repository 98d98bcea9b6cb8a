"""The cases of RFC 6455 over real sockets, and an independent client, against the echo endpoint."""

import socket
import sys
from collections.abc import Iterator

import pytest
import trio
import trio_websocket

from tests.support.live.fleet import Fleet
from tests.support.wire.cases import CASES, TOO_LARGE, Case
from tests.support.wire.rfc6455 import (
    BINARY,
    CLOSE,
    CONTINUATION,
    HANDSHAKE,
    PING,
    PONG,
    TEXT,
    close,
    frame,
    sent_frames,
)

pytestmark = pytest.mark.live

WAIT_SECONDS = 20.0
LARGE = 4 * 1024 * 1024


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of an echo endpoint in a process of its own."""
    with Fleet(tmp_path_factory.mktemp("echo")) as fleet:
        process = fleet.start(sys.executable, "-m", "tests.support.ws_echo", "127.0.0.1:0")
        line = process.wait_line("ready ")
        yield int(line.rpartition(":")[2])


def talk(port: int, sent: bytes) -> list[tuple[int, bytes]]:
    """Send bytes behind a handshake, end, and return the frames until the server ends."""
    with socket.create_connection(("127.0.0.1", port), WAIT_SECONDS) as connection:
        connection.sendall(HANDSHAKE + sent)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while data := connection.recv(65_536):
            received += data
    head, _, frames = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    return list(sent_frames(frames))


@pytest.mark.parametrize(
    "case", [case for case in CASES if case not in TOO_LARGE], ids=lambda case: case.name
)
def test_case(case: Case, port: int) -> None:
    """Messages come back, and a Close frame is the last thing before TCP ends."""
    frames = talk(port, case.sent)
    messages = tuple(
        data.decode() if opcode == TEXT else data
        for opcode, data in frames
        if opcode in (TEXT, BINARY)
    )
    closes = [data for opcode, data in frames if opcode == CLOSE]

    assert messages == case.messages
    assert tuple(data for opcode, data in frames if opcode == PONG) == case.pongs
    if case.code is None:
        assert not closes
    else:
        assert frames[-1][0] == CLOSE and len(closes) == 1
        assert case.answer in (None, closes[0])
        assert closes[0][:2] == (b"" if case.answer == b"" else case.code.to_bytes(2))


@pytest.mark.parametrize("size", [64, 1024, 65_536, LARGE])
def test_section_9_large_messages(size: int, port: int) -> None:
    """Four MiB as text in fragments of many sizes, and as pings between them."""
    text = b"*" * LARGE
    sent = [frame(TEXT, text[:size], fin=size == LARGE), frame(PING, b"between")]
    for start in range(size, LARGE, size):
        piece = text[start : start + size]
        sent.append(frame(CONTINUATION, piece, fin=start + size >= LARGE))

    frames = talk(port, b"".join(sent) + close(1000))
    assert (TEXT, text) in frames and (PONG, b"between") in frames
    assert frames[-1] == (CLOSE, b"\x03\xe8")


def test_an_independent_client_agrees(port: int) -> None:
    """trio-websocket speaks to it: text, bytes, pings, and the closing handshake."""

    async def main() -> None:
        url = f"ws://127.0.0.1:{port}/"
        with trio.fail_after(WAIT_SECONDS):
            async with trio_websocket.open_websocket_url(url) as websocket:
                for message in ("", "κόσμε", b"\xff" * 100_000, "x" * 70_000):
                    await websocket.send_message(message)
                    assert await websocket.get_message() == message
                await websocket.ping(b"here?")
                began = trio.current_time()
            assert websocket.closed is not None and websocket.closed.code == 1000
            assert trio.current_time() - began < 1

    trio.run(main)
