"""Exhausted resources: a full disk for logs, no file descriptors. Connected clients are served."""

import socket
from pathlib import Path

import pytest
import redis

from tests.support.live.clients import client, next_data, subscribed
from tests.support.live.fleet import FAST, Fleet, Process, command
from tests.support.waiting import until

pytestmark = pytest.mark.live


def sidecar_under(fleet: Fleet, shell: str, *extra: str) -> Process:
    """Start a sidecar by a shell that first takes something away from it."""
    sidecar = fleet.start(
        "sh", "-c", shell, "sh", command("fanout-sidecar"), "--discovery", fleet.discovery[0],
        "--resp", "127.0.0.1:0", "--ws", "127.0.0.1:0", "--admin", "127.0.0.1:0", *FAST, *extra,
    )  # fmt: skip
    sidecar.wait_line("ready ")
    return sidecar


def test_a_full_disk_for_logs_stops_nobody(fleet: Fleet) -> None:
    """Lines are lost, and nothing else."""
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    fleet.add_discovery()
    fleet.node("node-0")
    sidecar = sidecar_under(fleet, 'exec "$@" 2>/dev/full')
    with subscribed(sidecar, "c") as pubsub, client(sidecar) as publisher:
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", sidecar.port("resp"))) as wrong:
                wrong.sendall(b"*x\r\n")  # is worth a line
                assert wrong.recv(100).startswith(b"-ERR Protocol error")
        assert publisher.publish("c", "x") == 1
        assert next_data(pubsub) == b"x"
    assert sidecar.stop() == 0


@pytest.mark.parametrize(("hard", "warned"), [(1900, False), (1000, True)])
def test_as_many_files_as_clients_need_may_be_open(
    fleet: Fleet, hard: int, *, warned: bool
) -> None:
    """The soft limit is raised; where the hard one is too low that is said."""
    fleet.add_discovery()
    fleet.node("node-0")
    shell = f'ulimit -Sn 256; ulimit -Hn {hard}; exec "$@"'
    sidecar = sidecar_under(fleet, shell, "--clients-max", "400")
    limits = Path(f"/proc/{sidecar.pid}/limits").read_text()
    (line,) = [each for each in limits.splitlines() if each.startswith("Max open files")]

    assert int(line.split()[3]) == min(hard, 2 * 400 + 1024)
    assert (b"files_limited" in sidecar.log.read_bytes()) is warned
    assert sidecar.stop() == 0


def test_without_file_descriptors_those_who_are_there_are_served(fleet: Fleet) -> None:
    """And newcomers as soon as there is room for them."""
    fleet.add_discovery()
    fleet.node("node-0")
    sidecar = sidecar_under(fleet, 'ulimit -n 60; exec "$@"')
    address = ("127.0.0.1", sidecar.port("resp"))
    crowd: list[socket.socket] = []
    try:
        with subscribed(sidecar, "c") as pubsub, client(sidecar) as publisher:
            assert publisher.publish("c", "before") == 1
            assert next_data(pubsub) == b"before"
            crowd += [socket.create_connection(address, timeout=10) for _ in range(60)]
            until(lambda: b"accept_paused" in sidecar.log.read_bytes())
            assert publisher.publish("c", "still") == 1
            assert next_data(pubsub) == b"still"
            for each in crowd:
                each.close()
            with redis.Redis(port=address[1], socket_timeout=20) as newcomer:
                assert newcomer.publish("c", "after") == 1
            assert next_data(pubsub) == b"after"
    finally:
        for each in crowd:
            each.close()
    assert sidecar.stop() == 0
