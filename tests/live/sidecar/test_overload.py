"""More than a sidecar can carry for long: it answers, holds its limits, and stays a member."""

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from fanout.wire.redis.client import pack
from tests.support.live.clients import client, subscribed
from tests.support.live.fleet import Fleet, Process, command
from tests.support.waiting import until

pytestmark = pytest.mark.live

FLOODS = 2
PAYLOAD = b"x" * 1000
BURST = pack("PUBLISH", "flood", PAYLOAD) * 500
MEMORY_KIB_MAX = 200 * 1024
"""Of a sidecar with three clients that may each let a megabyte wait."""


@contextmanager
def flooded(node: Process) -> Iterator[None]:
    """Publish straight at a node, as fast as it takes it."""
    over = threading.Event()
    host, _, port = node.ready["redis"].rpartition(":")

    def flood() -> None:
        with socket.create_connection((host, int(port)), timeout=30) as to_node:
            to_node.sendall(pack("AUTH", "fanout-data", "any"))
            assert to_node.recv(100) == b"+OK\r\n"
            while not over.is_set():
                to_node.sendall(BURST)
                to_node.recv(1 << 20)  # also its answers, or it would stop reading

    threads = [threading.Thread(target=flood) for _ in range(FLOODS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def memory_kib(process: Process) -> int:
    """Return how much memory a process holds."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
    assert found is not None
    return int(found[1])


def test_a_flood_at_a_node_costs_slow_clients_only(fleet: Fleet) -> None:
    """Doors and health answer meanwhile; slow clients are disconnected; the node is not taken for dead.

    What is published meanwhile may be missed: a node's Redis cuts off whom it has to keep too much
    for. Afterwards all is as before.
    """
    fleet.add_discovery()
    node = fleet.node("node-0")
    sidecar = fleet.sidecar("sidecar-0", "--outbox-bytes-max=1000000")
    with subscribed(sidecar, "calm") as calm, client(sidecar) as publisher:
        with subscribed(sidecar, "flood"), flooded(node):
            until(lambda: b"slow_consumer" in sidecar.log.read_bytes())
            for _ in range(20):
                admin = HTTPConnection("127.0.0.1", sidecar.port("admin"), timeout=5)
                admin.request("GET", "/healthz")
                assert admin.getresponse().status == 200
                admin.close()
                assert publisher.ping()
                assert publisher.publish("calm", "meanwhile") in (0, 1)
                assert memory_kib(sidecar) < MEMORY_KIB_MAX

        def heard() -> bool:
            """Publish, and see it come; a node counts whom it has yet to cut off."""
            publisher.publish("calm", "after")
            message = calm.get_message(timeout=0.2)
            return message is not None and message["data"] == b"after"

        until(heard)
    status = fleet.start(command("fanout-node"), "status", "--discovery", fleet.discovery[0])
    assert status.popen.wait(30) == 0, status.says(b"anything")
    log = sidecar.log.read_bytes() + node.log.read_bytes()
    assert b"member_left" not in log
    assert b"node_deaf" not in log
