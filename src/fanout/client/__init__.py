"""A client of the sidecar's websocket door, for trio.

    async with open_client("ws://127.0.0.1:7380/") as client:
        await client.subscribe("news")
        await client.publish("news", b"hello")
        async for event in client:
            print(event)

The client connects in the background, reconnects when the connection is lost, and restores its
subscriptions. A `Gap` among the messages marks where messages may have been missed.
"""

from fanout.client.client import Client, open_client
from fanout.wire.ws.bridge_client import Event, Gap, Message

__all__ = ["Client", "Event", "Gap", "Message", "open_client"]
