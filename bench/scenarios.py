"""What is measured: each scenario names its systems, and one trial of one system."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack

import attrs
from hdrh.histogram import HdrHistogram

from bench import protocols
from bench.load import Loadgen
from bench.measure import cpu_seconds
from bench.systems import Servers, System

LATENCY_NS_MAX = 60 * 1_000_000_000
PAYLOAD_BYTES = 100
CHANNEL = "c"

Start = Callable[[Servers], System]
Figures = dict[str, float]


@attrs.frozen
class Trial:
    """One way to load any system.

    `subscribers` is how many there are at each door, `clients` how many
    publishers there are, of which each has `depth` messages on their way at a time.
    """

    subscribers: int = 1
    clients: int = 4
    depth: int = 64
    payload_bytes: int = PAYLOAD_BYTES
    rate: float = 0

    def run(self, loadgen: Loadgen, system: System, seconds: float) -> Figures:
        """Load the system; return rates, CPU times and latencies."""
        data = protocols.payload(self.payload_bytes)
        with ExitStack() as stack:
            sinks = [
                stack.enter_context(
                    loadgen.sink(
                        door.address,
                        door.protocol.subscribing(door.address, [CHANNEL]),
                        self.subscribers,
                        stamped=self.rate > 0,
                    )
                )
                for door in system.subscribe
            ]
            door = system.publish
            opening = door.protocol.opening(door.address)
            batch = door.protocol.batch([CHANNEL] * self.depth, data)
            if self.rate:
                source = loadgen.pace(door.address, opening, batch, self.rate, seconds)
            else:
                source = loadgen.pump(door.address, opening, self.clients, batch, seconds)
            run = stack.enter_context(source)
            before = {name: cpu_seconds(pids) for name, pids in system.processes.items()}
            sent = run.go(seconds)
            messages = sent.count * self.depth
            seen = [sink.wait(messages * self.subscribers) for sink in sinks]
            used = {name: cpu_seconds(system.processes[name]) - was for name, was in before.items()}
            samples = sinks[0].samples() if self.rate else run.samples()
        deliveries = sum(each.count for each in seen)
        elapsed = max(each.last for each in seen) - min(each.first for each in seen)
        figures = {
            "messages_per_second": messages / max(sent.seconds, elapsed),
            "deliveries_per_second": deliveries / max(sent.seconds, elapsed),
            "cpu_us_per_delivery": sum(used.values()) / deliveries * 1e6,
            "cpu_us_per_message": sum(used.values()) / messages * 1e6,
        }
        figures |= {
            f"cpu_us_per_message.{name}": cpu / messages * 1e6 for name, cpu in used.items()
        }
        return figures | percentiles(samples)


def percentiles(samples: Iterable[int]) -> Figures:
    """Return what an HdrHistogram says of latencies in ns, in us."""
    histogram = HdrHistogram(1, LATENCY_NS_MAX, 3)
    for sample in samples:
        histogram.record_value(min(sample, LATENCY_NS_MAX))
    return {
        f"latency_us.p{percentile:g}": histogram.get_value_at_percentile(percentile) / 1e3
        for percentile in (50, 99, 99.9)
    }


@attrs.frozen
class Scenario:
    """A trial, and the systems to try; ratios are to the first."""

    name: str
    trial: Trial
    systems: tuple[Start, ...]
    quick: bool = False


def _redis(servers: Servers) -> System:
    return servers.redis_alone()


def _fanout(
    *, websocket: bool = False, direct: bool = False, nodes: int = 1, sidecars: int = 1
) -> Start:
    def start(servers: Servers) -> System:
        system = servers.fleet(nodes, sidecars, websocket=websocket, direct=direct)
        how = f"{'ws' if websocket else 'resp'}{', published at a node' if direct else ''}"
        return attrs.evolve(system, name=f"fanout {how}")

    return start


def _nats(servers: Servers) -> System:
    return servers.nats()


def _bridge(servers: Servers) -> System:
    return servers.node_peer("bridge.js", protocols.Bridge())


def _socketio(servers: Servers) -> System:
    return servers.node_peer("socketio.js", protocols.SocketIo())


def _cluster(nodes: int) -> Start:
    return lambda servers: servers.cluster(nodes)


def scenarios() -> Iterator[Scenario]:
    """Yield all of them."""
    everybody = (_redis, _fanout(direct=True), _fanout(websocket=True, direct=True), _nats)
    for subscribers in (1, 10, 100, 1000):
        for clients, depth in ((4, 1), (4, 64)):
            yield Scenario(
                f"fan-out to {subscribers}, {clients} publishers {depth} deep",
                Trial(subscribers=subscribers, clients=clients, depth=depth),
                everybody if depth > 1 else (*everybody, _bridge, _socketio),
                quick=subscribers == 100 or (subscribers == 1 and depth == 64),
            )
    for clients, depth in ((1, 1), (50, 1), (1, 64), (4, 64), (50, 64)):
        yield Scenario(
            f"publish at the door, {clients} clients {depth} deep",
            Trial(clients=clients, depth=depth),
            (_redis, _fanout(), _fanout(websocket=True), _nats),
            quick=clients in (1, 4),
        )
    for size in (16, 1024, 65_536, 1_048_576):
        yield Scenario(
            f"payloads of {size} bytes",
            Trial(payload_bytes=size, depth=4, subscribers=10),
            (_redis, _fanout(direct=True), _fanout(websocket=True, direct=True)),
        )
    for nodes in (1, 3, 6):
        yield Scenario(
            f"{nodes} nodes, a subscriber at each",
            Trial(depth=16),
            (_cluster(nodes), _fanout(direct=True, nodes=nodes, sidecars=nodes)),
        )
    yield Scenario(
        "latency at 1000 messages a second",
        Trial(depth=1, rate=1000, subscribers=10),
        (_redis, _fanout(), _fanout(websocket=True), _nats),
        quick=True,
    )
