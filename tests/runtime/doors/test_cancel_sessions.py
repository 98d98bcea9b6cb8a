"""A client's session may end at any of its steps: nothing is half said, nothing stays behind."""

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.lowlevel import Task
from trio.testing import MockClock

from fanout.runtime.doors import resp_connection, ws_connection
from fanout.runtime.doors.local_client import LocalClient
from fanout.testing.network import MemoryNetwork
from fanout.testing.stream import MemoryTransport
from fanout.values.names import Endpoint
from fanout.values.requests import Encoding
from fanout.wire.redis.client import NOT_YET, ReplyReader, pack
from fanout.wire.ws.frames import text_frame
from tests.support.runtime.alive import alive
from tests.support.runtime.fleet import LEASE, memory_fleet, until
from tests.support.runtime.steps import at_every_step, at_step
from tests.support.wire.rfc6455 import HANDSHAKE, TEXT, close, frame, sent_frames

BUFFER_BYTES = 64
"""So little fits on its way that most of what is said leaves in pieces."""


def resp_requests(tag: bytes) -> bytes:
    """Return the requests of a Redis client's session."""
    requests: tuple[tuple[bytes, ...], ...] = (
        (b"HELLO", b"3"),
        (b"SUBSCRIBE", b"c", b"d"),
        (b"PSUBSCRIBE", b"c*"),
        (b"PUBLISH", b"c", tag + b"1"),
        (b"MULTI",),
        (b"PUBLISH", b"c", tag + b"2"),
        (b"PING",),
        (b"EXEC",),
        (b"PUBSUB", b"NUMSUB", b"c"),
        (b"UNSUBSCRIBE", b"c"),
        (b"PUBLISH", b"c", tag + b"3"),
        (b"QUIT",),
    )
    return b"".join(pack(*each) for each in requests)


def ws_requests(tag: bytes) -> bytes:
    """Return the requests of a websocket client's session."""
    publish = b'{"op":"publish","channel":"c","data":"%b%d","id":1}'
    requests = (
        b'{"op":"subscribe","channels":["c","d"],"id":1}',
        b'{"op":"psubscribe","patterns":["c*"],"id":1}',
        publish % (tag, 1),
        publish % (tag, 2),
        b'{"op":"unsubscribe","channels":["c"],"id":1}',
        publish % (tag, 3),
    )
    return HANDSHAKE + b"".join(frame(TEXT, each) for each in requests) + close(1000)


def resp_is_whole(said: bytes) -> bool:
    """Return whether the bytes are replies and nothing but whole ones."""
    reader = ReplyReader()
    reader.feed(said)
    while reader.gets() is not NOT_YET:
        pass
    reader.feed(b"+OK\r\n")
    return bool(reader.gets() == b"OK")


def ws_is_whole(said: bytes) -> bool:
    """Return whether the bytes are the answer to a handshake and whole frames; or nothing."""
    head, _, frames = said.partition(b"\r\n\r\n")
    list(sent_frames(frames))
    return not said or head.startswith(b"HTTP/1.1 101 ")


async def live(transport: MemoryTransport, requests: bytes) -> bytes:
    """Say all that and return what is answered until the end."""
    said = b""

    async def ask() -> None:
        left = requests
        with contextlib.suppress(trio.BrokenResourceError):
            while left:
                left = left[transport.send_nowait(left) :]
                await transport.wait_sendable()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        while data := await transport.receive_some(BUFFER_BYTES):
            said += data
        nursery.cancel_scope.cancel()
    transport.close()
    return said


def session(task: Task) -> trio.Nursery | None:
    """Find what a client's session runs in."""
    is_one = task.name.endswith("accept_clients.<locals>.serve")
    return task.child_nurseries[0] if is_one and task.child_nurseries else None


def cancel(nursery: trio.Nursery, _consumer: LocalClient) -> None:
    """Cancel a session as a sidecar does that stops at once."""
    nursery.cancel_scope.cancel()


def cut(_nursery: trio.Nursery, consumer: LocalClient) -> None:
    """End it as when the user has lost a right."""
    if consumer.subscribed:  # a right is never lost before the handshake
        consumer.cut("revoked", "a right is lost")


def feed(_nursery: trio.Nursery, consumer: LocalClient) -> None:
    """Do not end it: have a delivery come, more than is on its way at once."""
    if consumer.subscribed:
        consumer.send(DELIVERY[consumer.encoding])
        consumer.flush()


DELIVERY = {
    Encoding.RESP3: pack(b"message", b"c", b"x" * 300).replace(b"*", b">", 1),
    Encoding.JSON: text_frame(b'{"type":"message","channel":"c","data":"%b"}' % (b"x" * 300)),
}


@pytest.mark.parametrize("what", [cancel, cut, feed])
@pytest.mark.parametrize(
    ("port", "requests", "is_whole"),
    [(6380, resp_requests, resp_is_whole), (7380, ws_requests, ws_is_whole)],
    ids=["resp", "ws"],
)
async def test_whatever_happens_at_any_step_of_a_session(
    *,
    port: int,
    requests: Callable[[bytes], bytes],
    is_whole: Callable[[bytes], bool],
    what: Callable[[trio.Nursery, LocalClient], None],
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It says nothing by halves, and its neighbours hear what they should and no more."""
    consumers: list[LocalClient] = []

    class Noted(LocalClient):
        def __init__(self, *arguments: Any, **others: Any) -> None:
            super().__init__(*arguments, **others)
            consumers.append(self)

    network = MemoryNetwork(buffer_bytes_max=BUFFER_BYTES, receive_bytes_max=BUFFER_BYTES // 4)
    async with memory_fleet(nodes=2, network=network) as fleet:
        publisher, neighbour = await fleet.client("sidecar-1"), await fleet.client("sidecar-2")
        await neighbour.subscribed(b"c")
        await trio.sleep(LEASE)
        subscribed = [each.subscriptions for each in fleet.redis.values()]
        before = alive()
        for module in (resp_connection, ws_connection):
            monkeypatch.setattr(module, "LocalClient", Noted)

        async def attempt(number: int) -> bool:
            tag = b"%d:" % number
            transport = await network.connect(Endpoint("sidecar-1", port))
            with at_step(number, session, lambda nursery: what(nursery, consumers[-1])) as step:
                said = await live(transport, requests(tag))
            assert is_whole(said)
            assert await publisher.publish(b"c", b"after") == 1
            await until(lambda: (b"c", b"after") in neighbour.received)
            heard = [payload for _, payload in neighbour.received]
            assert heard[-1] == b"after"
            assert heard[:-1] == sorted(
                set(heard[:-1]) & {tag + each for each in (b"1", b"2", b"3")}
            )
            neighbour.received.clear()
            return step.acted

        assert await at_every_step(attempt) > 50
        consumers.clear()
        monkeypatch.undo()
        await trio.sleep(LEASE)
        assert [each.subscriptions for each in fleet.redis.values()] == subscribed
        assert alive() == before
