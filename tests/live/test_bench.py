"""The benchmark runs from the checkout, and what it says adds up."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.live


def bench(*words: str) -> str:
    """Run the bench; return what it printed."""
    command = [sys.executable, "-m", "bench", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler: apt install gcc")
def test_a_scenario_is_measured_and_compared(tmp_path: Path) -> None:
    """Every message sent was received by each subscriber, or there would be no figures."""
    path = tmp_path / "results.json"
    words = ("--rounds", "1", "--seconds", "0.2", "--only", "latency", "--json", str(path))
    shown = bench("run", *words)
    (scenario,) = json.loads(path.read_text())["scenarios"]

    assert set(scenario["systems"]) == {"redis", "fanout resp", "fanout ws", "nats"}
    assert scenario["without"] == {}
    for name, (trial,) in scenario["systems"].items():
        assert name in shown
        assert trial["deliveries_per_second"] > 5 * trial["messages_per_second"]
        assert 0 < trial["latency_us.p50"] <= trial["latency_us.p99"]
        assert trial["cpu_us_per_message"] > 0
    assert "1.00" in bench("compare", str(path), str(path))


def test_a_scenario_that_is_none_is_refused() -> None:
    """With exit code 2 and no traceback."""
    command = [sys.executable, "-m", "bench", "run", "--only", "nothing such"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "no scenario is called 'nothing such'" in done.stderr
    assert "Traceback" not in done.stderr
