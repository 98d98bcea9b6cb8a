"""Runs scenarios: all systems of one side by side, in turns, and several times."""

import datetime as dt
import os
import platform
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

from rich.progress import Progress

from bench.load import Loadgen, Stalled
from bench.scenarios import Figures, Scenario
from bench.systems import Missing, Servers, System


def run(scenarios: Iterable[Scenario], *, rounds: int, seconds: float) -> dict[str, Any]:
    """Return what all rounds of all scenarios gave, with machine and versions."""
    todo = list(scenarios)
    results = []
    with tempfile.TemporaryDirectory() as name, Progress(transient=True) as progress:
        loadgen = Loadgen(Path(name))
        bar = progress.add_task("", total=sum(rounds * len(each.systems) for each in todo))
        for scenario in todo:
            progress.update(bar, description=scenario.name)
            with Servers(Path(name)) as servers:
                systems, without = _start(scenario, servers)
                trials: dict[str, list[Figures]] = {}
                for system in systems * rounds:
                    try:
                        figures = scenario.trial.run(loadgen, system, seconds)
                        trials.setdefault(system.name, []).append(figures)
                    except Stalled as stalled:
                        without[system.name] = str(stalled)
                    progress.advance(bar)
            results.append({"name": scenario.name, "systems": trials, "without": without})
    return {"about": about(), "rounds": rounds, "seconds": seconds, "scenarios": results}


def _start(scenario: Scenario, servers: Servers) -> tuple[list[System], dict[str, str]]:
    """Start the systems; return also which are missing, and why."""
    systems, without = [], {}
    for start in scenario.systems:
        try:
            systems.append(start(servers))
        except Missing as missing:
            without[start.__name__.strip("_")] = str(missing)
    return systems, without


def middle(trials: list[Figures]) -> Figures:
    """Return the median of each figure."""
    return {name: median(trial[name] for trial in trials) for name in trials[0]}


def about() -> dict[str, str]:
    """Return what one must know of the machine to read the figures."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "date": dt.datetime.now(tz=dt.UTC).date().isoformat(),
        "machine": model,
        "cpus": str(os.cpu_count()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "redis": _version("redis-server", "--version"),
        "load": Path("/proc/loadavg").read_text().split()[0],
    }


def _version(*words: str) -> str:
    try:
        done = subprocess.run(words, check=False, capture_output=True, text=True)
    except FileNotFoundError:
        return "missing"
    return done.stdout.partition("\n")[0][:60]
