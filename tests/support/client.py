"""A client of the websocket door against a scripted sidecar."""

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket

from fanout.client import Client, Event, open_client
from tests.support.bridge_schema import received

LIMITS = {
    "payload_bytes": 9,
    "name_bytes": 9,
    "names": 2,
    "id_bytes": 9,
    "message_bytes": 9,
    "outbox_bytes": 9,
}


HELLO = {"type": "hello", "protocol": 1, "sidecar": "fake", "connection": 1, "limits": LIMITS}


Script = Callable[[WebSocketConnection], Awaitable[None]]


@asynccontextmanager
async def client_of(script: Script, events_max: int = 100) -> AsyncIterator[Client]:
    """Yield a client of a sidecar that treats each connection by a script."""

    async def serve(request: WebSocketRequest) -> None:
        with contextlib.suppress(ConnectionClosed):
            await script(await request.accept(subprotocol="fanout.v1.json"))

    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_websocket, serve, "127.0.0.1", 0, None)
        with trio.fail_after(30):
            async with open_client(f"ws://127.0.0.1:{server.port}/", events_max=events_max) as one:
                yield one
        nursery.cancel_scope.cancel()


async def say(socket: WebSocketConnection, frame: dict[str, Any]) -> None:
    """Send a frame that fits the schema."""
    text = json.dumps(frame)
    received(text)
    await socket.send_message(text)


async def next_of(client: Client) -> Event:
    """Return the next event."""
    return await client.__anext__()
