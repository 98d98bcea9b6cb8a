"""`fanout.client` against real sidecars, which come and go behind one address."""

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from fanout.client import Gap, Message, open_client
from fanout.errors import RequestFailed
from tests.support.client import next_of
from tests.support.live.fleet import Fleet, Process

pytestmark = pytest.mark.live

WAIT_SECONDS = 30.0


class Address:
    """A port that stays, in front of a sidecar that may be another tomorrow."""

    def __init__(self) -> None:
        self.target: Process | None = None
        self.url = ""

    async def serve(self, near: trio.SocketStream) -> None:
        """Connect through; without a target hang up."""
        if self.target is None:
            return
        try:
            far = await trio.open_tcp_stream("127.0.0.1", self.target.port("ws"))
        except OSError:
            return
        async with far, trio.open_nursery() as nursery:
            for source, sink in ((near, far), (far, near)):
                nursery.start_soon(_pump, source, sink, nursery.cancel_scope)


async def _pump(source: trio.SocketStream, sink: trio.SocketStream, done: trio.CancelScope) -> None:
    try:
        async for data in source:
            await sink.send_all(data)
    except trio.BrokenResourceError:
        pass
    done.cancel()


@asynccontextmanager
async def address(target: Process | None) -> AsyncIterator[Address]:
    """Yield an address for a sidecar."""
    one = Address()
    one.target = target
    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, one.serve, 0, host="127.0.0.1")
        (listener,) = await nursery.start(serve)
        one.url = f"ws://127.0.0.1:{listener.socket.getsockname()[1]}/"
        with trio.fail_after(WAIT_SECONDS):
            yield one
        nursery.cancel_scope.cancel()


def test_services_reach_each_other(fleet: Fleet) -> None:
    """Channels, patterns, any bytes, receivers counted, refusals with their code."""
    fleet.add_discovery()
    fleet.node("node-0")
    fleet.node("node-1")
    one, two = fleet.sidecar("one"), fleet.sidecar("two")
    payloads = [b"", "é".encode(), bytes(range(256)), b"\xff" * 1_000_000]

    async def main() -> None:
        async with (
            address(one) as near,
            address(two) as far,
            open_client(near.url) as client,
            open_client(far.url) as other,
        ):
            assert await client.subscribe("a", "b") == ()
            assert await client.psubscribe("p*") == ()
            for payload in payloads:
                assert await other.publish("a", payload) == 1
                assert await next_of(client) == Message("a", payload)
            assert await client.publish("p1", "text") == 1
            assert await next_of(client) == Message("p1", b"text", "p*")
            assert await client.publish("p\udcff", "bytes") == 1
            assert await next_of(client) == Message("p\udcff", b"bytes", "p*")
            for channel, data, code in (
                ("c" * 2000, b"", "name_too_long"),
                ("__fanout:x", b"", "reserved_channel"),
                ("c", b"x" * 1_048_577, "message_too_large"),
            ):
                with pytest.raises(RequestFailed) as caught:
                    await client.publish(channel, data)
                assert caught.value.code == code
            with pytest.raises(RequestFailed, match="reserved_channel"):
                await client.subscribe("__fanout:x")

    trio.run(main)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_restarted_sidecar_is_found_again(fleet: Fleet, number: int) -> None:
    """Subscriptions come back with a gap; publishes wait for the connection."""
    fleet.add_discovery()
    fleet.node("node-0")

    async def main() -> None:
        async with address(None) as door, open_client(door.url) as client:
            door.target = await trio.to_thread.run_sync(fleet.sidecar, "one")
            await client.subscribe("c")
            assert await client.publish("c", "before") == 1
            assert await next_of(client) == Message("c", b"before")

            code = await trio.to_thread.run_sync(door.target.stop, number)
            assert code == (0 if number == signal.SIGTERM else -number)
            # What is published before the client has noticed may be lost, and is said to be unknown.
            while not client.trouble:  # noqa: ASYNC110 - there is no event for it
                await trio.sleep(0.01)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.publish, "c", "after")
                door.target = await trio.to_thread.run_sync(fleet.sidecar, "two")
                assert await next_of(client) == Gap("", "reconnected")
                assert await next_of(client) == Message("c", b"after")

    trio.run(main)


def test_a_killed_node_is_a_gap(fleet: Fleet) -> None:
    """A client that keeps state learns that it may be stale, when it happens and when it is over."""
    fleet.add_discovery()
    node, _ = fleet.node("node-0"), fleet.node("node-1")
    sidecar = fleet.sidecar("one")

    async def main() -> None:
        async with address(sidecar) as door, open_client(door.url) as client:
            await client.subscribe("c")
            node.stop(signal.SIGKILL)
            assert await next_of(client) == Gap("node-0", "lost")
            assert await next_of(client) == Gap("node-0", "left")

    trio.run(main)
