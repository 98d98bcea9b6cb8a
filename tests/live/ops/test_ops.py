"""Fleets started by the unit and container files, and what the supervisor is notified of."""

import json
import os
import select
import signal
import socket
import subprocess
from pathlib import Path

import pytest
import redis

from fanout.runtime.redis.redis_server import free_port
from tests.support.documents import OPS, SECRET, compose
from tests.support.live.fleet import FAST, START_SECONDS, Fleet, Process, command
from tests.support.waiting import until

pytestmark = pytest.mark.live


class Here:
    """The composed fleet without containers: each service has an address on loopback."""

    def __init__(self, fleet: Fleet) -> None:
        self.discovery, port = fleet.redis()
        self.services = compose()
        self.ports = {"discovery": port}
        self.processes: dict[str, Process] = {}
        self._fleet = fleet

    def start(self, name: str) -> tuple[dict[str, str], list[str]]:
        """Start a service; return the environment and words of the image's health check."""
        service = self.services[name]
        self.ports.setdefault(name, free_port("127.0.0.1"))
        environment = {**service["environment"], "FANOUT_SECRET": SECRET}
        environment = {key: self._at(value, name) for key, value in environment.items()}
        words = [self._at(word, name) for word in service["command"]]
        process = self._fleet.start(
            command(words[0]), *words[1:], *FAST, env={**environment, "FANOUT_ADMIN": "127.0.0.1:0"}
        )
        process.wait_line("ready ")
        self.processes[name] = process
        (line,) = (OPS / "container/Dockerfile").read_text().split("HEALTHCHECK")[1:]
        check = json.loads(line.split("CMD", 1)[1].splitlines()[0])
        check[-1] = check[-1].replace(":9380", f":{process.port('admin')}")
        return environment, [command(check[0]), *check[1:]]

    def _at(self, text: str, name: str) -> str:
        """Put addresses of this machine in the place of the network's."""
        for service in self.services:
            if f"{service}:6379" in text:
                port = self.ports.setdefault(service, free_port("127.0.0.1"))
                text = text.replace(f"{service}:6379", f"127.0.0.1:{port}")
        text = text.replace("0.0.0.0:6379", f"127.0.0.1:{self.ports.get(name, 0)}")
        return text.replace("0.0.0.0:6380", "127.0.0.1:0").replace("0.0.0.0:7380", "127.0.0.1:0")


def healthy(check: tuple[dict[str, str], list[str]]) -> bool:
    """Run a health check."""
    environment, words = check
    done = subprocess.run(
        words, env={**os.environ, **environment}, capture_output=True, timeout=30, check=False
    )
    return done.returncode == 0


def test_the_composed_fleet_works(fleet: Fleet) -> None:
    """Its own commands and health checks; a node stopped as Docker does it is drained."""
    here = Here(fleet)
    checks = {name: here.start(name) for name in here.services if name != "discovery"}

    until(lambda: all(map(healthy, checks.values())))
    with redis.Redis(port=here.processes["sidecar"].port("resp")) as client:
        subscriber = client.pubsub()
        subscriber.subscribe("news")
        assert subscriber.get_message(timeout=START_SECONDS) is not None
        assert client.publish("news", "hello") == 1
        message = subscriber.get_message(timeout=START_SECONDS)
        assert message is not None and message["data"] == b"hello"
        subscriber.close()
    assert here.processes["node-2"].stop() == 0
    assert not healthy(checks["node-2"])

    here.discovery.stop()
    assert healthy(checks["node-1"])  # traffic goes on
    assert healthy(checks["sidecar"])
    for node in ("node-1", "node-3"):
        here.processes[node].stop(signal.SIGKILL)
    until(lambda: not healthy(checks["sidecar"]))


def test_a_supervisor_hears_of_readiness_and_of_the_end(fleet: Fleet, tmp_path: Path) -> None:
    """Not before a node is there for the sidecar to hear."""
    fleet.add_discovery()
    heard = {}
    for name in ("node", "sidecar"):
        heard[name] = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        heard[name].bind(str(tmp_path / name))
        heard[name].settimeout(START_SECONDS)
    try:
        sidecar = fleet.start(
            command("fanout-sidecar"), "--discovery", fleet.discovery[0], "--resp", "127.0.0.1:0",
            "--ws", "127.0.0.1:0", "--admin", "127.0.0.1:0",
            env={"NOTIFY_SOCKET": str(tmp_path / "sidecar")},
        )  # fmt: skip
        until(lambda: "sidecar_waiting" in sidecar.log.read_text())
        assert select.select([heard["sidecar"]], [], [], 0)[0] == []
        node = fleet.start(
            command("fanout-node"), "--id", "a", "--spawn", "127.0.0.1:0", "--discovery",
            fleet.discovery[0], env={"NOTIFY_SOCKET": str(tmp_path / "node")},
        )  # fmt: skip

        assert [each.recv(100) for each in heard.values()] == [b"READY=1"] * 2
        assert (sidecar.stop(), node.stop()) == (0, 0)
        assert [each.recv(100) for each in heard.values()] == [b"STOPPING=1"] * 2
    finally:
        for each in heard.values():
            each.close()
