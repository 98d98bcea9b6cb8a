"""A chat over Redis pub/sub with stock redis-py: each line that you type goes to all who joined.

Start a fleet, then this program in two terminals:

    fanout-sidecar --local 3
    pip install redis
    python examples/redis_chat.py --name ann
    python examples/redis_chat.py --name ben

A sidecar speaks the Redis protocol, so nothing here knows of fanout: with the URL of a Redis
(`--url redis://HOST:6379`) the program is the same chat. Ctrl-D ends it.
"""

import argparse
import sys
import threading
from typing import Any

import redis

CHANNEL = "chat"


def show(pubsub: Any) -> None:
    """Print what is published, until the program unsubscribes."""
    try:
        for message in pubsub.listen():
            if message["type"] == "subscribe":
                print(f"* joined {CHANNEL}", flush=True)
            elif message["type"] == "message":
                print(message["data"], flush=True)
    except redis.ConnectionError as error:
        print(f"* connection lost: {error}", flush=True)


def main() -> None:
    """Publish each line of standard input."""
    parser = argparse.ArgumentParser(description="Chat over Redis pub/sub.")
    parser.add_argument("--url", default="redis://127.0.0.1:6380", help="a sidecar or a Redis")
    parser.add_argument("--name", default="guest", help="shown in front of your lines")
    options = parser.parse_args()

    with redis.Redis.from_url(options.url, decode_responses=True) as client:
        # A connection that has subscribed cannot publish in RESP2: redis-py takes another one.
        pubsub = client.pubsub()
        pubsub.subscribe(CHANNEL)
        reader = threading.Thread(target=show, args=(pubsub,), daemon=True)
        reader.start()
        for line in sys.stdin:
            try:
                client.publish(CHANNEL, f"{options.name}: {line.rstrip()}")
            except redis.RedisError as error:  # such as NONODE while no node is active
                print(f"* not published: {error}", flush=True)
        pubsub.unsubscribe()  # ends the reader: its connection must not be closed under it
        reader.join(timeout=5)


if __name__ == "__main__":
    main()
