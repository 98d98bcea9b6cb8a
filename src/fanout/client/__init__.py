"""A client of the sidecar's websocket door, for services that run on trio.

    async with open_client("ws://127.0.0.1:7380/") as client:
        await client.subscribe("news")
        await client.publish("news", b"hello")
        async for event in client:
            print(event)

It connects in the background, again and again, and subscribes anew each time. Whatever may have
been missed meanwhile is said by a `Gap` among the messages.
"""

from fanout.client.client import Client, open_client
from fanout.wire.ws.bridge_client import Event, Gap, Message

__all__ = ["Client", "Event", "Gap", "Message", "open_client"]
