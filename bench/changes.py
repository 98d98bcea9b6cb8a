"""Effects on clients when the fleet changes: nodes join, drain, and restart after a crash."""

import time
from contextlib import ExitStack

import attrs
import redis

from bench.figures import Figures
from bench.fleet import Fleet, Node
from bench.load import Loadgen, Stalled
from bench.processes import HOST
from bench.protocols import Redis
from bench.systems import Door, System
from bench.traffic import background, subscribe

PACE = {"rate": 1000.0, "seconds_max": 120.0}
CHANNELS = 50
POLL_SECONDS = 0.002


def _fleet(system: System) -> Fleet:
    assert system.fleet is not None
    return system.fleet


@attrs.frozen
class Joins:
    """Nodes join and drain, one after the other, under traffic on many channels.

    Messages are published at the first sidecar and received at each. With 0 `nodes` nothing changes.
    """

    nodes: int = 0

    def run(self, loadgen: Loadgen, system: System, seconds: float) -> Figures:
        """Let nodes join and drain; return how long it took, and the latencies meanwhile."""
        fleet = _fleet(system)
        names = [f"c{n:02}" for n in range(CHANNELS)]
        door, subscribers = system.publish[0], list(system.subscribe)
        traffic = background(loadgen, door, subscribers, names, **PACE)
        with traffic as stop:
            joined, drained = [], []
            for n in range(self.nodes):
                began = time.monotonic()
                node = fleet.node(f"guest-{n}-{began:.0f}")
                node.wait_active()
                joined.append(time.monotonic() - began)
                began = time.monotonic()
                node.drain()
                drained.append(time.monotonic() - began)
                node.redis.end()
            if not self.nodes:
                time.sleep(seconds)
            figures = stop()
        if self.nodes:
            figures |= {"join_seconds": max(joined), "drain_seconds": max(drained)}
        return {**figures, "lost": 0}


@attrs.frozen
class Resubscribe:
    """A node's Redis crashes and restarts empty while a client of the sidecar has many channels.

    Meanwhile another node carries traffic to a client of the same sidecar.
    """

    channels: int

    def run(self, loadgen: Loadgen, system: System, _seconds: float) -> Figures:
        """Return the time until all channels were subscribed again, and the latencies."""
        lost, other = _fleet(system).nodes
        door = system.subscribe[0]
        with ExitStack() as stack:
            names = [f"idle{n}" for n in range(self.channels)]
            subscribe(stack, loadgen, door, 1, names)
            at_other = Door(other.address, Redis())
            traffic = background(loadgen, at_other, [door], ["t"], **PACE)
            with traffic as stop:
                lost.redis.end(kill=True)
                lost.redis, _ = _fleet(system).servers.redis(port=lost.port)
                took = _until_subscribed(lost, self.channels)
                return {**stop(), **took, "lost": 0}


def _until_subscribed(node: Node, channels: int) -> Figures:
    """Wait until `channels` channels are subscribed on a node that was just started.

    Returns how long it took, from the start and from the first channel. Raises Stalled.
    """
    began = time.monotonic()
    first, count = None, 0
    with redis.Redis(HOST, node.port) as client:
        while count < channels:
            count = client.info("stats")["pubsub_channels"]
            now = time.monotonic()
            if first is None and count > channels // 100:
                first = now
            if now - began > PACE["seconds_max"]:
                raise Stalled(f"only {count} of {channels} channels were subscribed again")
            time.sleep(POLL_SECONDS)
    assert first is not None
    return {"back_seconds": now - began, "resubscribe_seconds": now - first}


@attrs.frozen
class Subscribe:
    """The time Redis takes when one client subscribes to as many channels at once."""

    channels: int

    def run(self, loadgen: Loadgen, system: System, _seconds: float) -> Figures:
        """Return the time from the connection to the last confirmation."""
        began = time.monotonic()
        with ExitStack() as stack:
            names = [f"idle{n}" for n in range(self.channels)]
            subscribe(stack, loadgen, system.subscribe[0], 1, names)
            return {"resubscribe_seconds": time.monotonic() - began}
