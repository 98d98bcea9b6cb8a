"""A client at a limit beside a neighbour that must not notice."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from fanout.runtime.net.transport import Transport
from fanout.testing.network import MemoryNetwork
from fanout.testing.stream import MemoryTransport
from tests.support.runtime.fleet import MemoryFleet, memory_fleet
from tests.support.runtime.ws_client import open_websocket

RESP, WS = 6380, 7380

BEAT_SECONDS = 0.05


@asynccontextmanager
async def beside_a_neighbour(*, network: MemoryNetwork | None = None) -> AsyncIterator[MemoryFleet]:
    """Run a sidecar at whose doors one client publishes, and another hears all of that in time."""
    async with memory_fleet(nodes=1, sidecars=0, network=network) as fleet:
        await fleet.sidecar("sidecar-1")
        neighbour = await fleet.client("sidecar-1")
        listener = await open_websocket(fleet.network, "sidecar-1")
        await listener.ask(op="subscribe", channels=["beat"], id=0)

        async def beat() -> None:
            number = 0
            while True:
                number += 1
                began = trio.current_time()
                assert await neighbour.publish(b"beat", b"%d" % number) == 1
                assert (await listener.next())["data"] == str(number)
                assert trio.current_time() == began
                await trio.sleep(BEAT_SECONDS)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(beat)
            yield fleet
            await trio.sleep(2 * BEAT_SECONDS)
            nursery.cancel_scope.cancel()


async def say(transport: Transport, data: bytes) -> None:
    """Send it all, however long it takes."""
    while data:
        data = data[transport.send_nowait(data) :]
        if data:
            await transport.wait_sendable()


async def rest_of(transport: MemoryTransport) -> bytes:
    """Read to the end."""
    said = bytearray()
    while data := await transport.receive_some(65_536):
        said += data
    return bytes(said)
