"""The benchmark runs from the checkout, and what it says adds up."""

import json
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bench.load import Loadgen, Stalled
from bench.protocols import MARK, Batch

ROOT = Path(__file__).parents[3]
BASE = {"redis", "fanout RESP", "fanout websocket", "nats-server"}
BRIDGES = {"ws + ioredis", "Socket.IO", "nchan", "webdis"}

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler: apt install gcc"),
]


def bench(*words: str, code: int = 0) -> str:
    """Run the bench; return what it printed, or what it complained about."""
    command = [sys.executable, "-m", "bench", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr if code else done.stdout


def one_scenario(path: Path, only: str) -> tuple[dict[str, Any], str]:
    """Run one for a moment; return its results and what was printed."""
    words = ("--rounds", "1", "--seconds", "0.2", "--only", only, "--json", str(path))
    shown = bench("run", *words)
    (scenario,) = json.loads(path.read_text())["scenarios"]
    return scenario, shown


def test_a_scenario_is_measured_compared_and_drawn(tmp_path: Path) -> None:
    """Every message sent was received by each subscriber, or there would be no figures."""
    path = tmp_path / "results.json"
    scenario, shown = one_scenario(path, "latency")

    # The bridges are other programs, which need not be here; but then they are named.
    assert scenario["systems"].keys() >= BASE
    assert scenario["systems"].keys() | scenario["without"].keys() == BASE | BRIDGES
    for name in BRIDGES & scenario["without"].keys():
        assert f"without {name}: " in shown
    for name, (trial,) in scenario["systems"].items():
        assert name in shown
        assert trial["deliveries_per_second"] > 5 * trial["messages_per_second"]
        assert 0 < trial["latency_us.p50"] <= trial["latency_us.p99"]
        assert trial["cpu_us_per_message"] > 0
    ceiling = json.loads(path.read_text())["ceiling"]
    assert min(ceiling.values()) > 0
    assert "the load generator alone" in shown
    assert "1.00" in bench("compare", str(path), str(path))
    assert bench("plot", str(path), str(tmp_path)).split() == [str(tmp_path / "bench-latency.svg")]


def test_nodes_join_and_drain_under_traffic(tmp_path: Path) -> None:
    """And each message still arrives once at each subscriber."""
    scenario, _ = one_scenario(tmp_path / "results.json", "nodes join and drain")
    (still,), (moved,) = scenario["systems"].values()

    assert scenario["without"] == {}
    assert still["messages"] > 0
    assert moved["messages"] > 0
    assert moved["join_seconds"] > 0
    assert moved["drain_seconds"] > 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("run", "--only", "nothing such"), "no scenario matches 'nothing such'"),
        (("run", "--only", "latency", "--json", "/dev/null/x"), "--json"),
        (("run", "--rounds", "0"), "--rounds"),
        (("compare", __file__, __file__), "is not a file of results"),
        (("plot", str(ROOT / "pyproject.toml"), str(ROOT)), "is not a file of results"),
    ],
)
def test_wrong_input_is_refused(words: tuple[str, ...], says: str) -> None:
    """With exit code 2, and a message that names it."""
    assert says in bench(*words, code=2)


# The load generator, against a server of the test's own.


@contextmanager
def server(*answers: bytes, hang_up: bool = True) -> Iterator[tuple[str, list[bytes]]]:
    """Run a server that sends one answer a connection; yield its address and what each said."""
    said: list[bytes] = []

    def serve() -> None:
        with ExitStack() as stack:
            connections = [stack.enter_context(listener.accept()[0]) for _ in answers]
            for connection, answer in zip(connections, answers, strict=True):
                connection.sendall(answer)
                if hang_up:
                    connection.shutdown(socket.SHUT_WR)
            said.extend(b"".join(iter(partial(each.recv, 65536), b"")) for each in connections)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}", said
        finally:
            thread.join()


@pytest.mark.parametrize(("sent", "says"), [(2, "2 of 3"), (4, "4 of 3")])
def test_a_message_lost_or_come_twice_is_noticed(tmp_path: Path, sent: int, says: str) -> None:
    """The sink says how many came, and that it was hung up on."""
    loadgen = Loadgen(tmp_path)
    with (
        server(MARK * sent) as (address, _),
        loadgen.sink(address, (), 1) as sink,
    ):
        while not sink.counters().closed:
            pass
        with pytest.raises(Stalled, match=rf"^{says} messages arrived, 1 of 1 connections closed$"):
            sink.wait(3)


def test_a_sink_counts_to_the_last_message(tmp_path: Path) -> None:
    """Over all its connections."""
    with (
        server(b"!ab", b"!!") as (address, _),
        Loadgen(tmp_path).sink(address, (), 2) as sink,
    ):
        assert sink.wait(3).count == 3


def test_a_pump_stops_where_nobody_receives(tmp_path: Path) -> None:
    """It has no more on its way than the window, counted in deliveries."""
    loadgen = Loadgen(tmp_path)
    batch = Batch(MARK * 4, 4, MARK)
    ledger = loadgen.ledger(window=20)
    with (
        loadgen.mirror() as address,
        loadgen.pump(address, (), 1, batch, 0.1, ledger=ledger, each=8) as pump,
    ):
        pump.say("go")

        assert pump.result(0.1).count == 3


def test_a_pump_goes_on_when_what_it_sent_is_received(tmp_path: Path) -> None:
    """The same window, with a sink on the same ledger that gets more than was sent."""
    loadgen = Loadgen(tmp_path)
    batch = Batch(MARK, 1, MARK)
    ledger = loadgen.ledger(window=20)
    with (
        loadgen.mirror(flood=MARK * 1000) as flood,
        loadgen.sink(flood, (), 1, ledger=ledger),
        loadgen.mirror() as address,
        loadgen.pump(address, (), 1, batch, 0.1, ledger=ledger, each=8) as pump,
    ):
        pump.say("go")

        assert pump.result(0.1).count > 3


def test_a_pump_takes_its_batches_in_turns(tmp_path: Path) -> None:
    """So that many channels are published on."""
    batch = Batch(b"a!b!", 1, MARK, parts=2)
    with (
        server(MARK, MARK, MARK, hang_up=False) as (address, said),
        Loadgen(tmp_path).pump(address, (), 3, batch, 0) as pump,
    ):
        pump.say("go")

        assert pump.result(0).count == 3
    assert said == [b"a!", b"b!", b"a!"]
