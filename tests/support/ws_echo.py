"""An echo endpoint on the sidecar's own websocket code, for the Autobahn fuzzing client.

`python -m tests.support.ws_echo HOST:PORT` prints `ready HOST:PORT` and echoes text and binary messages
until it is interrupted. Limits are those of the fuzzing cases, not those of a sidecar.
"""

import contextlib
import sys

import trio

from fanout.core.outbox import Outbox
from fanout.runtime.net.accept import accept_clients
from fanout.runtime.net.sender import Sender
from fanout.runtime.net.transport import CONNECTION_ERRORS, SocketNetwork, Transport
from fanout.values.names import Endpoint
from fanout.wire.ws.frames import text_frame
from fanout.wire.ws.websocket import Binary, Closed, Opened, Rejected, Text, WebSocketServer

MESSAGE_BYTES_MAX = 64 * 1024 * 1024
FRAGMENTS_MAX = 1_000_000
FAREWELL_SECONDS = 1.0


async def echo(transport: Transport) -> None:
    """Serve one client."""
    server = WebSocketServer(
        subprotocols=(), message_bytes_max=MESSAGE_BYTES_MAX, fragments_max=FRAGMENTS_MAX
    )
    outbox = Outbox(4 * MESSAGE_BYTES_MAX)
    sender = Sender(transport, outbox)
    over = by_peer = False
    while not over and (data := await transport.receive_some(65_536)):
        for event in server.receive(data):
            match event:
                case Opened(_, response):
                    outbox.append(response)
                case Text(text):
                    outbox.append(text_frame(text.encode()))
                case Binary(payload):
                    outbox.append(b"\x82" + text_frame(payload)[1:])
                case Closed() | Rejected():
                    over = True
                    by_peer = isinstance(event, Closed) and event.by_peer
        if outgoing := server.outgoing():
            outbox.append(outgoing)
        await sender.drain()
    with trio.move_on_after(FAREWELL_SECONDS):
        while not by_peer and await transport.receive_some(65_536):
            pass


async def main(address: str) -> None:
    """Serve at an address."""
    listener = await SocketNetwork().bind(Endpoint.parse(address))
    listener.listen()
    print(f"ready {listener.endpoint}", flush=True)

    async def serve(transport: Transport) -> None:
        with contextlib.suppress(*CONNECTION_ERRORS):
            await echo(transport)

    await accept_clients(
        listener, serve, clients_max=1000, connects_per_second_max=1000, refusal=b""
    )


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
