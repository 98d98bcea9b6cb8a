"""A fleet of fanout processes whose nodes may join and drain during a trial."""

import re
import signal

import attrs

from bench.processes import HOST, Process, Servers, program

PLENTY = ("--subscriptions-max", "1000000", "--connects-per-second-max", "100000",
          "--arguments-max", "1000001", "--outbox-bytes-max", "268435456")  # fmt: skip
"""Limits of the sidecar raised so far that a load test does not reach them."""


@attrs.define(eq=False)
class Node:
    """A Redis and its agent."""

    name: str
    port: int
    redis: Process
    agent: Process

    @property
    def address(self) -> str:
        """The address of its Redis, to publish to it directly."""
        return f"{HOST}:{self.port}"

    def wait_active(self) -> None:
        """Wait until the node is active; call it once. Raises Missing."""
        self.agent.says("ready")

    def drain(self) -> None:
        """Drain the node and wait until it has left."""
        self.agent.popen.send_signal(signal.SIGTERM)
        self.agent.popen.wait()


@attrs.frozen
class Sidecar:
    """A sidecar and its doors."""

    pid: int
    resp: str
    ws: str


@attrs.frozen(eq=False)
class Fleet:
    """Nodes and sidecars on one discovery Redis."""

    servers: Servers
    env: dict[str, str]
    nodes: list[Node] = attrs.field(factory=list)
    sidecars: list[Sidecar] = attrs.field(factory=list)

    @classmethod
    def start(cls, servers: Servers, nodes: int, sidecars: int) -> "Fleet":
        """Start a fleet and wait until all its members are ready. Raises Missing."""
        _, discovery = servers.redis()
        fleet = cls(servers, {"FANOUT_DISCOVERY": f"redis://{HOST}:{discovery}"})
        fleet.nodes.extend(fleet.node(f"node-{n}") for n in range(nodes))
        for node in fleet.nodes:
            node.wait_active()
        fleet.sidecars.extend(fleet.sidecar(f"sidecar-{n}") for n in range(sidecars))
        return fleet

    def node(self, name: str) -> Node:
        """Start a node; it is active once `wait_active` returns."""
        # The agent does not spawn the Redis, so that the usage of each is measured separately.
        redis, port = self.servers.redis()
        words = [program("fanout-node", "pip install -e ."), "--id", name]
        words += ["--redis", f"redis://{HOST}:{port}"]
        return Node(name, port, redis, self.servers.start(words, talks=True, env=self.env))

    def sidecar(self, name: str) -> Sidecar:
        """Start a sidecar and wait until it is ready."""
        words = [program("fanout-sidecar", "pip install -e ."), "--id", name, *PLENTY]
        words += ["--resp", f"{HOST}:0", "--ws", f"{HOST}:0", "--admin", f"{HOST}:0"]
        process = self.servers.start(words, talks=True, env=self.env)
        said = process.says("ready")
        return Sidecar(process.pid, said["resp"], re.sub(r"^ws://|/$", "", said["ws"]))
