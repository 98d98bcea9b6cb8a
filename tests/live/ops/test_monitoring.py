"""The admin doors of the installed commands: what monitoring and a probe get to see."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
import redis

from fanout.runtime.admin.sidecar_metrics import SIDECAR_METRICS
from fanout.runtime.agent.agent_metrics import AGENT_METRICS
from fanout.runtime.metrics.metrics import Family
from tests.support.exposition import families, samples
from tests.support.live.fleet import Fleet, Process, command

pytestmark = pytest.mark.live
OPENMETRICS = {"accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}


def admin(process: Process, path: str, **headers: str) -> httpx.Response:
    """Ask at the admin door that the ready line names."""
    return httpx.get(process.ready["admin"] + path, headers=headers)


def check(text: str) -> None:
    """Have Prometheus' own tool look at metrics."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("needs promtool: apt install prometheus")
    done = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_both_commands_serve_metrics_that_prometheus_reads(fleet: Fleet) -> None:
    """In both formats, with every family that the docs list, and what the process uses."""
    fleet.add_discovery()
    node = fleet.node("node-1", "--admin", "127.0.0.1:0")
    sidecar = fleet.sidecar("sidecar-1")
    with redis.Redis(port=sidecar.port("resp")) as client:
        assert client.publish("c", "x") == 0

    tables: dict[Process, Sequence[Family[Any]]] = {sidecar: SIDECAR_METRICS, node: AGENT_METRICS}
    for process, table in tables.items():
        plain = admin(process, "metrics")
        assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        check(plain.text)
        answer = admin(process, "metrics", **OPENMETRICS)
        assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1")
        found = families(answer.text)
        bases = [each.name.removesuffix("_total").removesuffix("_info") for each in table]
        assert {*bases, "process_resident_memory_bytes"} <= found.keys()
        assert all(found[name].samples for name in bases)
        (info,) = found["fanout"].samples
        assert info.labels["cluster"] == "default"
    text = admin(sidecar, "metrics", **OPENMETRICS).text
    assert samples(text)["fanout_publishes_total", "executed"] == 1


def test_probes_say_ready_only_while_it_is(fleet: Fleet) -> None:
    """A node whose Redis is stopped turns red at its agent and at the sidecar, with the reason."""
    fleet.add_discovery()
    node = fleet.node("node-1", "--admin", "127.0.0.1:0")
    sidecar = fleet.sidecar("sidecar-1")
    for process in (node, sidecar):
        assert admin(process, "healthz").json()["status"] == "alive"
        ready = admin(process, "readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "ready")
        assert ready.json()["discovery_age_seconds"] < 60
    found = subprocess.run(["pgrep", "-P", str(node.pid)], capture_output=True, check=True)
    server = int(found.stdout)
    os.kill(server, signal.SIGSTOP)
    try:
        for process, reason in ((node, "probe failed"), (sidecar, "not subscribed on node-1")):
            answer = until(process, 503)
            assert reason in answer.json()["reason"]
            assert admin(process, "healthz").status_code == 200
    finally:
        os.kill(server, signal.SIGCONT)
    for process in (node, sidecar):
        until(process, 200)


def until(process: Process, status: int) -> httpx.Response:
    """Ask /readyz until it answers so; pytest bounds the time."""
    while (answer := admin(process, "readyz")).status_code != status:
        time.sleep(0.05)
    return answer


def test_an_admin_address_is_taken_or_too_wide(fleet: Fleet) -> None:
    """A clear error, the way out, and exit code 2."""
    fleet.add_discovery()
    node = fleet.node("node-1", "--admin", "127.0.0.1:0")
    taken = f"127.0.0.1:{node.port('admin')}"
    own = {"fanout-node": ("--spawn", "127.0.0.1:0"), "fanout-sidecar": ()}
    for name, flags in own.items():
        for address, says in (
            (taken, b"Address already in use; choose"),
            ("0.0.0.0:0", b"--allow-unauthenticated "),
        ):
            done = subprocess.run(
                [command(name), *flags, "--admin", address, "--discovery", fleet.discovery[0]],
                env={**os.environ, "FANOUT_RESP": "127.0.0.1:0", "FANOUT_WS": "127.0.0.1:0"},
                capture_output=True,
                check=False,
                timeout=60,
            )
            assert done.returncode == 2, done
            assert says in done.stderr
            assert b"admin" in done.stderr
            assert b"Traceback" not in done.stderr
