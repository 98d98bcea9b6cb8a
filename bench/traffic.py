"""The trial of most scenarios: messages published at some doors must arrive at all others."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol as Protocol_

import attrs

from bench import protocols
from bench.figures import Figures, percentiles
from bench.load import Counters, Ledger, Loadgen, Run
from bench.machine import GENERATORS
from bench.processes import cpu_seconds
from bench.systems import Door, System

PAYLOAD_BYTES = 100
CHANNEL = "c"
WINDOW_BYTES = 1 << 20
"""Bytes in flight to one subscriber: far below the 8 MiB at which Redis may disconnect it."""

WINDOW_DELIVERIES = 100_000
"""Bytes in flight to all subscribers: slow systems deliver them after the trial."""

LATE_SECONDS = 0.1
"""How long to wait for duplicates of messages."""

OVERHEAD_BYTES = 100
"""Maximum overhead of a message in any of the protocols."""


class Trial(Protocol_):
    """One way to measure a system."""

    def run(self, loadgen: Loadgen, system: System, seconds: float) -> Figures:
        """Measure a system for about `seconds`. Raises Stalled when messages are missing."""


@attrs.frozen
class Sinks:
    """The subscribers at one door, in one or more generators."""

    door: Door
    runs: tuple[Run, ...]

    def wait(self, messages: int) -> list[Counters]:
        """Wait until each subscriber has received `messages` messages. Raises Stalled."""
        return [run.wait(messages * run.connections) for run in self.runs]


def none_twice(due: list[tuple[Sinks, int]]) -> None:
    """Check that no duplicates arrive after all messages. Raises Stalled if one does."""
    time.sleep(LATE_SECONDS)
    for sinks, messages in due:
        sinks.wait(messages)


def split(total: int, parts: int) -> list[int]:
    """Split `total` into `parts` numbers as equal as possible, and drop zeros."""
    return [size for n in range(parts) if (size := (total + n) // parts)]


def subscribe(
    stack: ExitStack, loadgen: Loadgen, door: Door, connections: int, names: list[str],
    *, patterns: bool = False, ledger: Ledger | None = None, stamped: bool = False,
) -> Sinks:  # fmt: skip
    """Connect subscribers at a door until the stack is closed."""
    dialogue = door.protocol.subscribing(door.address, names, patterns=patterns)
    runs = tuple(
        stack.enter_context(
            loadgen.sink(door.address, dialogue, some, ledger=ledger, stamped=stamped)
        )
        for some in split(connections, GENERATORS)
    )
    time.sleep(door.settle_seconds)
    return Sinks(door, runs)


@attrs.frozen
class Traffic:
    """Messages to subscribers, at full speed or at a fixed rate.

    There are `subscribers` at each subscribing door of the system. `clients` publish, spread over
    its publishing doors, each with `depth` messages in flight. With a `rate` (messages a second)
    there is one publisher in an open loop. Subscribers have all `channels`, or one `pattern` that
    matches them. `idle_...` are connected and receive nothing. Publishers that are not `paced` by
    the slowest subscriber may be faster than all subscribers.
    """

    subscribers: int = 1
    clients: int = 4
    depth: int = 1
    payload_bytes: int = PAYLOAD_BYTES
    rate: float = 0
    channels: int = 1
    pattern: str = ""
    idle_channels: int = 0
    idle_patterns: int = 0
    idle_clients: int = 0
    paced: bool = True

    def run(self, loadgen: Loadgen, system: System, seconds: float) -> Figures:
        """Run the load; return rates, CPU times and latencies."""
        ledger = loadgen.ledger(self.window(self.subscribers * len(system.subscribe)))
        with ExitStack() as stack:
            self._be_idle(stack, loadgen, system.subscribe[0])
            sinks = [
                subscribe(
                    stack, loadgen, door, self.subscribers, self._names(door),
                    patterns=bool(self.pattern), ledger=ledger, stamped=self.rate > 0,
                )
                for door in system.subscribe
            ]  # fmt: skip
            pumps = [
                (door, run)
                for door in system.publish
                for run in self._publish(
                    stack, loadgen, system, door, ledger=ledger, seconds=seconds
                )
            ]
            generators = [run for each in sinks for run in each.runs] + [run for _, run in pumps]
            servers = {name: _used(pids) for name, pids in system.processes.items()}
            busy = [_used([run.pid]) for run in generators]
            for _, run in pumps:
                run.say("go")
            sent = [(door, run.result(seconds)) for door, run in pumps]
            due = [(each, self._sent_to(each.door, sent)) for each in sinks]
            seen = [counters for each, messages in due for counters in each.wait(messages)]
            cpu = {name: used() for name, used in servers.items()}
            took = max(seen, key=lambda each: each.last).last - min(each.first for each in seen)
            took = max(took, *(each.seconds for _, each in sent))
            generator = max(used() for used in busy) / took
            none_twice(due)
            sampled = [run for each in sinks for run in each.runs] if self.rate else [
                run for _, run in pumps
            ]  # fmt: skip
            samples = [sample for run in sampled for sample in run.samples()]
        messages = sum(each.count for _, each in sent) * self.depth
        return {
            **rates(messages, sum(each.count for each in seen), took, cpu),
            "generator_busy": generator,
            **percentiles(samples),
        }

    def window(self, subscribers: int) -> int:
        """Return the limit of deliveries in flight, at least enough to keep the publishers busy."""
        if not self.paced:
            return sys.maxsize
        bytes_each = self.payload_bytes + OVERHEAD_BYTES
        most = min(WINDOW_DELIVERIES, WINDOW_BYTES // bytes_each * subscribers)
        return max(most, 2 * self.clients * self.depth * subscribers)

    def _names(self, door: Door) -> list[str]:
        if self.pattern:
            return [self.pattern]
        return list(door.names) or self._channels()

    def _channels(self) -> list[str]:
        # All of one length: a generator sends batches of equal size.
        return (
            [f"{CHANNEL}{n:06}" for n in range(self.channels)] if self.channels > 1 else [CHANNEL]
        )

    def _be_idle(self, stack: ExitStack, loadgen: Loadgen, door: Door) -> None:
        """Connect idle clients, and subscribe to idle names, at a door."""
        if self.idle_channels:
            names = [f"idle{n}" for n in range(self.idle_channels)]
            subscribe(stack, loadgen, door, 1, names)
        if self.idle_patterns:
            names = [f"idle{n}.*" for n in range(self.idle_patterns)]
            subscribe(stack, loadgen, door, 1, names, patterns=True)
        if self.idle_clients:
            subscribe(stack, loadgen, door, self.idle_clients, ["idle"])

    def _publish(
        self, stack: ExitStack, loadgen: Loadgen, system: System, door: Door,
        *, ledger: Ledger, seconds: float,
    ) -> Iterator[Run]:  # fmt: skip
        """Connect the publishers of one door."""
        batch = self._batch(door)
        opening = door.protocol.opening(door.address)
        if self.rate:
            rate = self.rate / len(system.publish)
            yield stack.enter_context(loadgen.pace(door.address, opening, batch, rate, seconds))
            return
        heard = sum(each.names == door.names for each in system.subscribe)
        each = self.depth * self.subscribers * heard
        for clients in split(max(self.clients // len(system.publish), 1), GENERATORS):
            source = loadgen.pump(
                door.address, opening, clients, batch, seconds, ledger=ledger, each=each
            )
            yield stack.enter_context(source)

    def _batch(self, door: Door) -> protocols.Batch:
        """Return the batches to send in rotation; one is enough for one channel."""
        data = protocols.payload(self.payload_bytes)
        names = list(door.names) or self._channels()
        if self.pattern:
            names = [self.pattern.replace("*", CHANNEL)]
        if len(names) < self.depth:
            names *= self.depth // len(names)
        return protocols.in_turns(
            [
                door.protocol.batch(names[at : at + self.depth], data)
                for at in range(0, len(names) - self.depth + 1, self.depth)
            ]
        )

    def _sent_to(self, door: Door, sent: list[tuple[Door, Counters]]) -> int:
        """Return how many messages each subscriber of a door must receive."""
        heard = [counters.count for each, counters in sent if each.names == door.names]
        return sum(heard) * self.depth


def _used(pids: tuple[int, ...] | list[int]) -> Callable[[], float]:
    """Return a function that returns the CPU time processes have used since this call."""
    before = cpu_seconds(pids)
    return lambda: cpu_seconds(pids) - before


def rates(messages: int, deliveries: int, seconds: float, cpu: dict[str, float]) -> Figures:
    """Return rates, and the CPU time (s, by process) per message and per delivery."""
    total = sum(cpu.values())
    return {
        "messages_per_second": messages / seconds,
        "deliveries_per_second": deliveries / seconds,
        "cpu_us_per_message": total / messages * 1e6,
        "cpu_us_per_delivery": total / deliveries * 1e6,
        **{f"cpu_us_per_message.{name}": used / messages * 1e6 for name, used in cpu.items()},
    }


@contextmanager
def background(
    loadgen: Loadgen, publish: Door, subscribers: list[Door], names: list[str],
    *, rate: float, seconds_max: float,
) -> Iterator[Callable[[], Figures]]:  # fmt: skip
    """Publish at a rate while the block runs.

    Yields a function that stops it and returns the number of messages and their latencies; it
    raises Stalled when a message is missing or arrived twice.
    """
    with ExitStack() as stack:
        sinks = [subscribe(stack, loadgen, door, 1, names, stamped=True) for door in subscribers]
        data = protocols.payload(PAYLOAD_BYTES)
        batch = protocols.in_turns([publish.protocol.batch([name], data) for name in names])
        opening = publish.protocol.opening(publish.address)
        pace = stack.enter_context(loadgen.pace(publish.address, opening, batch, rate, seconds_max))
        pace.say("go")

        def stop() -> Figures:
            pace.say("stop")
            sent = pace.result(0).count
            for each in sinks:
                each.wait(sent)
            none_twice([(each, sent) for each in sinks])
            samples = [sample for each in sinks for run in each.runs for sample in run.samples()]
            return {"messages": float(sent), **percentiles(samples)}

        yield stop
