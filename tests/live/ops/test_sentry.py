"""The installed commands report to a Sentry that stands in for the real one."""

import gzip
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from queue import Queue

import pytest

from tests.support.live.fleet import Fleet, command

pytestmark = pytest.mark.live


@pytest.fixture
def received() -> Iterator[tuple[int, Queue[bytes]]]:
    """The port of a server that takes reports, and what it has taken."""
    bodies: Queue[bytes] = Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            packed = self.headers.get("content-encoding") == "gzip"
            bodies.put(gzip.decompress(body) if packed else body)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1], bodies
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_error_of_a_node_is_reported(fleet: Fleet, received: tuple[int, Queue[bytes]]) -> None:
    """Its Redis is killed: an event with the node as tag, and without the fleet's secret."""
    port, bodies = received
    fleet.add_discovery()
    node = fleet.start(
        command("fanout-node"), "--id", "node-1", "--spawn", "127.0.0.1:0",
        env={
            "SENTRY_DSN": f"http://key@127.0.0.1:{port}/1", "no_proxy": "127.0.0.1",
            "FANOUT_SECRET": "kanarie", "FANOUT_DISCOVERY": fleet.discovery[0],
        },
    )  # fmt: skip
    node.wait_line("ready ")
    found = subprocess.run(["pgrep", "-P", str(node.pid)], capture_output=True, check=True)
    os.kill(int(found.stdout), signal.SIGKILL)

    report = bodies.get(timeout=30)
    assert b'"redis_died"' in report
    assert b'"node":"node-1"' in report.replace(b": ", b":")
    assert b"kanarie" not in report
    assert node.stop() == 0
    assert b"Sentry" not in node.log.read_bytes()  # the SDK says nothing of its own


def test_a_wrong_dsn_ends_with_a_line(fleet: Fleet) -> None:
    """That names the variable, and not the key in it."""
    done = subprocess.run(
        [command("fanout-node"), "--spawn", "127.0.0.1:0", "--discovery", "redis://127.0.0.1:1"],
        env={**os.environ, "SENTRY_DSN": "https://kanarie@"},
        capture_output=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 2
    assert done.stderr.startswith(b"Error: SENTRY_DSN: ")
    assert b"kanarie" not in done.stderr
    assert done.stderr.count(b"\n") == 1
