"""Runs scenarios: the systems of each in rotation, for several rounds."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from bench.ceiling import ceiling
from bench.figures import Figures
from bench.load import Loadgen, Stalled
from bench.machine import about
from bench.processes import Missing, Servers
from bench.scenarios import Row, Scenario
from bench.systems import System


def run(
    scenarios: Sequence[Scenario], console: Console, *, rounds: int, seconds: float
) -> Iterator[dict[str, Any]]:
    """Run all rounds of all scenarios; yield the results so far, first those of the generator alone."""
    with tempfile.TemporaryDirectory(prefix="fanout-bench-") as name:
        folder = Path(name)
        loadgen = Loadgen(folder)
        done: list[dict[str, Any]] = []
        results = {
            "about": about(), "ceiling": ceiling(loadgen, seconds), "rounds": rounds,
            "seconds": seconds, "scenarios": done,
        }  # fmt: skip
        yield results
        with Progress(console=console, transient=True) as progress:
            total = sum(rounds * len(each.rows) for each in scenarios)
            bar = progress.add_task("", total=total)
            for scenario in scenarios:
                progress.update(bar, description=scenario.name)
                tried = Tried(scenario)
                for _ in tried.rounds(loadgen, folder, rounds, seconds):
                    progress.advance(bar)
                done.append(tried.results())
                yield results


class Tried:
    """One running scenario: figures by row, and why rows without figures have none."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._trials: dict[str, list[Figures]] = {}
        self._without: dict[str, str] = {}

    def results(self) -> dict[str, Any]:
        """Return the results of the scenario."""
        return {
            "name": self._scenario.name, "plot": self._scenario.plot, "at": self._scenario.at,
            "systems": self._trials, "without": self._without,
        }  # fmt: skip

    def rounds(self, loadgen: Loadgen, folder: Path, rounds: int, seconds: float) -> Iterator[None]:
        """Run each row once per round; yield after each trial."""
        with Servers(folder) as shared:
            started: dict[str, System] = {}
            for _ in range(rounds):
                for row in self._scenario.rows:
                    if row.name not in self._without:
                        if self._scenario.fresh:
                            with Servers(folder) as own:
                                self._try(row, {}, own, loadgen, seconds)
                        else:
                            self._try(row, started, shared, loadgen, seconds)
                    yield

    def _try(
        self, row: Row, started: dict[str, System], servers: Servers, loadgen: Loadgen,
        seconds: float,
    ) -> None:  # fmt: skip
        """Run one trial of a row, with its running system if there is one.

        A system that failed to deliver is not run again and has no figures.
        """
        try:
            system = started.get(row.name) or row.start(servers)
            started[row.name] = system
            figures = row.trial.run(loadgen, system, seconds)
        except (Missing, Stalled) as error:
            self._trials.pop(row.name, None)
            self._without[row.name] = str(error)
        else:
            self._trials.setdefault(row.name, []).append(figures)
