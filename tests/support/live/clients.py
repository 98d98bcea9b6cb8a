"""Redis clients of a real fleet."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis

from fanout.core.users import CTL_USER
from fanout.runtime.redis.login import NO_PASSWORD
from tests.support.live.fleet import Process
from tests.support.waiting import WAIT_SECONDS


def client(sidecar: Process, protocol: int = 2) -> redis.Redis:
    """Return a stock client connected to a sidecar."""
    return redis.Redis(port=sidecar.port("resp"), protocol=protocol, socket_timeout=WAIT_SECONDS)


def direct_to(node: Process) -> redis.Redis:
    """Return a client of a node itself, as sidecars log in."""
    return redis.Redis(port=node.port("redis"), username=CTL_USER, password=NO_PASSWORD)


def pubsub_of(connection: redis.Redis) -> Any:
    """Return a stock subscriber."""
    return connection.pubsub()  # type: ignore[no-untyped-call]


@contextmanager
def subscribed(sidecar: Process, *channels: Any, protocol: int = 2) -> Iterator[Any]:
    """Subscribe with redis-py and swallow the confirmations."""
    with client(sidecar, protocol) as connection, pubsub_of(connection) as pubsub:
        pubsub.subscribe(*channels)
        for _ in channels:
            assert pubsub.get_message(timeout=WAIT_SECONDS)["type"] == "subscribe"
        yield pubsub


def next_data(pubsub: Any) -> Any:
    """Wait for the next message's payload."""
    message = pubsub.get_message(timeout=WAIT_SECONDS)
    assert message is not None, "no message came"
    return message["data"]
