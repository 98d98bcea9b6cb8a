"""The scenarios: for each the systems, and the trial of each system."""

from collections.abc import Callable, Iterator
from functools import partial

import attrs

from bench import systems
from bench.changes import Joins, Resubscribe, Subscribe
from bench.memory import Memory
from bench.processes import Servers
from bench.systems import System
from bench.traffic import Traffic, Trial

Start = Callable[[Servers], System]

MANY_CHANNELS = 100_000
MANY_CLIENTS = 5000
SUBSCRIBERS = (1, 10, 100, 1000)
NODES = (1, 2, 4, 8)


@attrs.frozen
class Row:
    """One system and its trial."""

    name: str
    start: Start
    trial: Trial


@attrs.frozen
class Scenario:
    """Rows to compare; ratios are relative to the first row.

    Scenarios of one `plot` are drawn together, over `at`. In a `fresh` scenario each trial starts
    its system anew. With `--quick` only `quick` scenarios run, otherwise all.
    """

    name: str
    rows: tuple[Row, ...]
    plot: str = ""
    at: int = 0
    fresh: bool = False
    quick: bool = False


REDIS = ("redis", systems.redis)
NATS = ("nats-server", systems.nats)
RESP = ("fanout RESP", systems.fanout)
WS = ("fanout websocket", partial(systems.fanout, websocket=True))
RESP_DIRECT = ("fanout RESP", partial(systems.fanout, direct=True))
WS_DIRECT = ("fanout websocket", partial(systems.fanout, websocket=True, direct=True))
BRIDGES = (
    ("ws + ioredis", systems.bridge),
    ("Socket.IO", systems.socketio),
    ("nchan", systems.nchan),
    ("webdis", systems.webdis),
)


def _rows(trial: Trial, *peers: tuple[str, Start]) -> tuple[Row, ...]:
    return tuple(Row(name, start, trial) for name, start in peers)


def scenarios() -> Iterator[Scenario]:
    """Yield all scenarios."""
    yield from _fan_out()
    yield from _publish()
    yield from _names()
    yield from _payloads()
    yield from _nodes()
    yield Scenario(
        "latency at 1000 messages a second to 10 subscribers",
        _rows(Traffic(rate=1000, subscribers=10), REDIS, RESP, WS, NATS, *BRIDGES),
        plot="latency",
        quick=True,
    )
    yield from _idle()
    yield from _memory()
    yield from _changes()


def _fan_out() -> Iterator[Scenario]:
    for depth in (1, 64):
        for subscribers in SUBSCRIBERS:
            peers = (REDIS, RESP_DIRECT, WS_DIRECT, NATS, *(BRIDGES if depth == 1 else ()))
            yield Scenario(
                f"fan-out to {subscribers}, 4 publishers {depth} deep",
                _rows(Traffic(subscribers=subscribers, depth=depth), *peers),
                plot="fan-out" if depth == 1 else "",
                at=subscribers,
                quick=(subscribers, depth) in ((100, 1), (1, 64)),
            )
    yield Scenario(
        "overload: fan-out to 100, 4 publishers 64 deep that do not wait for subscribers",
        _rows(Traffic(subscribers=100, depth=64, paced=False), REDIS, RESP_DIRECT, WS_DIRECT, NATS),
    )


def _publish() -> Iterator[Scenario]:
    for clients, depth in ((1, 1), (50, 1), (1, 64), (50, 64)):
        yield Scenario(
            f"publish at the door, {clients} clients {depth} deep",
            _rows(Traffic(clients=clients, depth=depth), REDIS, RESP, WS, NATS),
            quick=(clients, depth) in ((1, 1), (50, 64)),
        )


def _names() -> Iterator[Scenario]:
    yield Scenario(
        "a pattern with 10 subscribers, beside 100 other patterns",
        _rows(
            Traffic(subscribers=10, pattern="busy.*", idle_patterns=100),
            *(REDIS, RESP_DIRECT, WS_DIRECT, NATS),
        ),
        quick=True,
    )
    yield Scenario(
        f"{MANY_CHANNELS} channels, each published on in turn",
        _rows(Traffic(depth=16, channels=MANY_CHANNELS), REDIS, RESP_DIRECT, WS_DIRECT, NATS),
    )


def _payloads() -> Iterator[Scenario]:
    for name, size in (
        ("16 B", 16), ("100 B", 100), ("1 KiB", 2**10), ("16 KiB", 2**14), ("1 MiB", 2**20),
    ):  # fmt: skip
        yield Scenario(
            f"payloads of {name} to 10 subscribers",
            _rows(
                Traffic(payload_bytes=size, subscribers=10),
                *(REDIS, RESP_DIRECT, WS_DIRECT, NATS),
            ),
        )


def _nodes() -> Iterator[Scenario]:
    for nodes in NODES:
        # A fixed number per node, so that the load of a node, and the effect of batches, stay the same.
        trial = Traffic(clients=4 * nodes, depth=16)
        yield Scenario(
            f"{nodes} nodes and 2 subscribers, published at all nodes",
            _rows(
                trial,
                ("Redis Cluster PUBLISH", partial(systems.cluster, nodes=nodes)),
                ("Redis Cluster SPUBLISH", partial(systems.cluster, nodes=nodes, sharded=True)),
                ("fanout", partial(systems.fanout, nodes=nodes, sidecars=2, direct=True)),
            ),
            plot="nodes",
            at=nodes,
            quick=nodes == 2,
        )


def _idle() -> Iterator[Scenario]:
    busy = Traffic(subscribers=10)
    for name, start in (REDIS, RESP_DIRECT, WS_DIRECT):
        yield Scenario(
            f"what idle ones cost a busy channel, {name}",
            (
                Row(name, start, busy),
                Row(
                    f"{name}, {MANY_CHANNELS} idle channels", start,
                    attrs.evolve(busy, idle_channels=MANY_CHANNELS),
                ),
                Row(
                    f"{name}, {MANY_CLIENTS} idle clients", start,
                    attrs.evolve(busy, idle_clients=MANY_CLIENTS),
                ),
            ),
        )  # fmt: skip


def _memory() -> Iterator[Scenario]:
    yield Scenario(
        f"memory of {MANY_CLIENTS} idle clients",
        _rows(Memory(clients=MANY_CLIENTS), REDIS, RESP, WS, NATS, *BRIDGES),
        fresh=True,
    )
    yield Scenario(
        f"memory of {MANY_CHANNELS} channels of one client",
        _rows(Memory(channels=MANY_CHANNELS), REDIS, RESP, WS, NATS),
        fresh=True,
        quick=True,
    )


def _changes() -> Iterator[Scenario]:
    fleet = partial(systems.fanout, nodes=2, sidecars=2)
    yield Scenario(
        "nodes join and drain at 1000 messages a second on 50 channels",
        (
            Row("fanout, nothing changes", fleet, Joins()),
            Row("fanout, 2 nodes join and drain", fleet, Joins(nodes=2)),
        ),
        quick=True,
    )
    yield Scenario(
        f"subscribing {MANY_CHANNELS} channels again on a node that comes back",
        (
            Row("redis, asked for all at once", systems.redis, Subscribe(MANY_CHANNELS)),
            Row("fanout", partial(systems.fanout, nodes=2), Resubscribe(MANY_CHANNELS)),
        ),
        fresh=True,
        quick=True,
    )
