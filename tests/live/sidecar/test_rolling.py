"""Planned change of a real fleet under traffic, judged by the checkers of the simulation."""

import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import pytest
import redis
import trio
import trio_websocket

from tests.sim.history import History, Publish, Subscription
from tests.support.live.clients import client, pubsub_of
from tests.support.live.fleet import Fleet, Process

pytestmark = pytest.mark.live

ROUNDS = int(os.environ.get("FANOUT_TEST_ROUNDS", "3"))
"""How often every node is restarted; more by the environment."""
CHANNELS = tuple(b"channel-%d" % number for number in range(12))
SETTLE_SECONDS = 1.0
"""For what is on its way when the publishers have stopped."""


@attrs.define(eq=False)
class Traffic:
    """Publishers and subscribers at every sidecar, and what they saw."""

    history: History = attrs.field(factory=History)
    stopped: threading.Event = attrs.field(factory=threading.Event)
    failures: list[str] = attrs.field(factory=list)

    def publish(self, name: str, sidecar: Process) -> None:
        """Publish on all channels in turn until stopped."""
        with client(sidecar) as connection:
            for number in itertools.count():
                channel = CHANNELS[number % len(CHANNELS)]
                publish = Publish(name, channel, number, time.monotonic())
                self.history.publishes[publish.payload] = publish
                try:
                    connection.publish(channel, publish.payload)
                    publish.result = "executed"
                except redis.ResponseError as error:
                    publish.result = "not" if "NOTPUBLISHED" in str(error) else "unknown"
                publish.ended = time.monotonic()
                if self.stopped.is_set():
                    return
                time.sleep(0.001)

    def subscribe(self, name: str) -> dict[bytes, Subscription]:
        """Open the books of one subscriber, whose subscriptions are confirmed."""
        now = time.monotonic()
        books = {channel: Subscription(name, channel, now, now) for channel in CHANNELS}
        self.history.subscriptions.extend(books.values())
        return books

    def listen(self, name: str, pubsub: Any) -> None:
        """Write down what a Redis client gets until its connection is closed."""
        books = self.subscribe(name)
        while not self.stopped.is_set():
            message = pubsub.get_message(timeout=0.1)
            if message is not None:
                books[message["channel"]].received.append(message["data"])

    async def listen_ws(self, name: str, url: str, ready: threading.Event) -> None:
        """Write down what a websocket client gets."""
        async with trio_websocket.open_websocket_url(url) as ws:
            channels = [channel.decode() for channel in CHANNELS]
            await ws.send_message(json.dumps({"op": "subscribe", "channels": channels, "id": 1}))
            while json.loads(await ws.get_message()).get("id") != 1:
                pass
            books = self.subscribe(name)
            ready.set()
            while not self.stopped.is_set():
                with trio.move_on_after(0.1):
                    message = json.loads(await ws.get_message())
                    if message["type"] == "message":
                        data = message["data"].encode()
                        books[message["channel"].encode()].received.append(data)


@contextmanager
def traffic_at(*sidecars: Process) -> Iterator[Traffic]:
    """Run publishers and subscribers at every sidecar; at the end all messages have arrived."""
    traffic = Traffic()
    publishing = Traffic(traffic.history)  # stopped first
    listeners, publishers, connections = [], [], []
    for number, sidecar in enumerate(sidecars):
        connection = client(sidecar, protocol=2 + number % 2)
        pubsub = pubsub_of(connection)
        connections += [pubsub, connection]
        pubsub.subscribe(*CHANNELS)
        for _ in CHANNELS:
            assert pubsub.get_message(timeout=10)["type"] == "subscribe"
        listeners.append(
            threading.Thread(target=traffic.listen, args=(f"resp-{number}", pubsub), daemon=True)
        )
        ready = threading.Event()
        arguments = (traffic.listen_ws, f"ws-{number}", f"{sidecar.ready['ws']}", ready)
        listeners.append(threading.Thread(target=trio.run, args=arguments, daemon=True))
        for thread in listeners[-2:]:
            thread.start()
        assert ready.wait(10)
        publishers.append(
            threading.Thread(
                target=publishing.publish, args=(f"publisher-{number}", sidecar), daemon=True
            )
        )
    for thread in publishers:
        thread.start()
    try:
        yield traffic
        publishing.stopped.set()
        for thread in publishers:
            thread.join(10)
        time.sleep(SETTLE_SECONDS)
    finally:
        publishing.stopped.set()
        traffic.stopped.set()
        for thread in (*publishers, *listeners):
            thread.join(10)
        for each in connections:
            each.close()


def three_by_three(fleet: Fleet) -> tuple[list[Process], list[Process]]:
    """Start discovery, three nodes and three sidecars, the first of each of the older build."""
    fleet.add_discovery()
    nodes = [fleet.node(f"node-{number}", older=not number) for number in range(3)]
    return nodes, [fleet.sidecar(f"sidecar-{number}", older=not number) for number in range(3)]


def judge(history: History) -> None:
    """Nothing lost, nothing twice, nothing out of order, every publish executed."""
    results = {publish.result for publish in history.publishes.values()}
    found = [
        *history.no_loss(),
        *history.at_most_once(),
        *history.order(),
        *history.integrity(),
    ]

    assert found == []
    assert results == {"executed"}
    assert len(history.publishes) > 100 * len(CHANNELS)


@pytest.mark.timeout(600)
def test_rolling_restarts_and_scaling_lose_nothing(fleet: Fleet) -> None:
    """Every node restarted again and again, then three more, then three fewer.

    With FANOUT_TEST_OLDER each restart changes the build of the node, in both directions.
    """
    nodes, sidecars = three_by_three(fleet)
    with traffic_at(*sidecars) as traffic:
        for turn in range(ROUNDS):
            for number in range(len(nodes)):
                assert nodes[number].stop() == 0
                older = (turn + number) % 2 == 0
                nodes[number] = fleet.node(f"node-{number}", older=older)
        more = [fleet.node(f"node-{number}") for number in range(3, 6)]
        for node in nodes:
            assert node.stop() == 0

    judge(traffic.history)
    assert all(node.stop(signal.SIGKILL) for node in more)


def test_a_killed_node_loses_only_what_was_in_flight(fleet: Fleet) -> None:
    """The others go on, and every publish is answered truly."""
    nodes, sidecars = three_by_three(fleet)
    with traffic_at(*sidecars) as traffic:
        time.sleep(1)
        killed = time.monotonic()
        nodes[0].stop(signal.SIGKILL)
        time.sleep(3)

    history = traffic.history
    unknown = [p for p in history.publishes.values() if p.result != "executed"]
    assert all(p.result == "unknown" for p in unknown)
    assert len(unknown) <= len(sidecars)  # one publish at a time is in flight at each
    assert all(p.began <= killed + 1 for p in unknown)
    in_flight = [
        p.payload
        for p in history.publishes.values()
        if p.began < killed + 1 and p.ended > killed - 1
    ]
    lost = [each for each in history.no_loss() if not any(repr(p) in each for p in in_flight)]
    assert lost == []
    assert not list(history.at_most_once())
    assert not list(history.integrity())
    after = [p for p in history.publishes.values() if p.began > killed + 1]
    assert {p.channel for p in after} == set(CHANNELS)
