"""A service on trio with `fanout.client`: takes orders from one channel, confirms them on another.

Start a fleet, this service, a subscriber, and send an order:

    fanout-sidecar --local 3
    python examples/trio_service.py
    fanout-sidecar sub orders:confirmed
    fanout-sidecar pub orders 4711

Every instance of the service gets every order: pub/sub has no queues. Ctrl-C ends it.
"""

import argparse
import signal

import trio

from fanout.client import Client, Gap, Message, open_client
from fanout.errors import RequestFailed


async def confirm(client: Client, order: bytes) -> None:
    """Publish the confirmation of an order."""
    try:
        with trio.fail_after(5):  # publish waits while there is no connection
            receivers = await client.publish("orders:confirmed", order)
    except (RequestFailed, trio.TooSlowError) as error:
        print(f"order {order.decode()} not confirmed: {error!r}", flush=True)
    else:
        print(f"order {order.decode()} confirmed to {receivers}", flush=True)


async def handle(client: Client) -> None:
    """Take orders until cancelled; the client reconnects and subscribes again by itself."""
    await client.subscribe("orders")
    print("ready", flush=True)
    async with trio.open_nursery() as nursery:
        async for event in client:
            match event:
                case Message(data=order):
                    nursery.start_soon(confirm, client, order)
                case Gap(node=node, reason=reason):
                    # Messages may have been missed: a real service reads open orders from its
                    # database now.
                    print(f"gap: {reason} {node}".rstrip(), flush=True)


async def main() -> None:
    """Run the service until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(description="Confirm orders.")
    parser.add_argument("--url", default="ws://127.0.0.1:7380/", help="websocket of a sidecar")
    url = parser.parse_args().url
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with open_client(url) as client, trio.open_nursery() as nursery:
            nursery.start_soon(handle, client)
            await anext(signals)
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
