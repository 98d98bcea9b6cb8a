"""`python -m bench`: see docs/performance.md."""

import json
import signal
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from bench import model, report, runner
from bench import plot as plots
from bench.machine import allow_many_files
from bench.processes import Missing
from bench.scenarios import scenarios

WIDTH = 160
"""Width of tables when standard output is not a terminal."""


def _results(_context: click.Context, parameter: click.Parameter, path: Path) -> dict[str, Any]:
    """Return the results in a file. Raises BadParameter when it has none."""
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        if found["scenarios"] is not None and found["about"] is not None:
            return found
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise click.BadParameter(
        f"{path} is not a file of results; create one with `python -m bench run --json`",
        param=parameter,
    )


def _writable(
    _context: click.Context, parameter: click.Parameter, path: Path | None
) -> Path | None:
    """Return `path` if it is writable: an error now, not after half an hour of trials."""
    try:
        if path is not None:
            path.touch()
    except OSError as error:
        raise click.BadParameter(str(error), param=parameter) from None
    return path


RESULTS = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def main() -> None:
    """Measure fanout and comparable systems. Results are ratios within one run."""


@main.command()
@click.option("--quick", is_flag=True, help="Few scenarios, one short round: under two minutes.")
@click.option("--only", default="", help="Run scenarios whose name contains this.")
@click.option(
    "--rounds", type=click.IntRange(1), default=5, show_default=True,
    help="Number of rounds; the median is shown.",
)  # fmt: skip
@click.option(
    "--seconds", type=click.FloatRange(0.05), default=1.0, show_default=True,
    help="Length of one trial.",
)  # fmt: skip
@click.option(
    "--json", "path", type=click.Path(dir_okay=False, path_type=Path), callback=_writable,
    help="Write the results to this file after each scenario.",
)  # fmt: skip
@click.option("--list", "listing", is_flag=True, help="List the scenarios and exit.")
def run(
    *, quick: bool, only: str, rounds: int, seconds: float, path: Path | None, listing: bool
) -> None:
    """Run the scenarios and print a table for each."""
    chosen = [each for each in scenarios() if only in each.name and (each.quick or not quick)]
    if not chosen:
        raise click.UsageError(f"no scenario matches {only!r}; see --list")
    if listing:
        for scenario in chosen:
            click.echo(scenario.name)
        return
    if quick:
        rounds, seconds = 1, 0.5
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    allow_many_files()
    try:
        for results in runner.run(chosen, console, rounds=rounds, seconds=seconds):
            if path is not None:
                path.write_text(json.dumps(results, indent=1))
            if results["scenarios"]:
                report.show_scenario(results["scenarios"][-1], console)
            else:
                report.show_head(results, console)
    except Missing as missing:
        raise click.UsageError(str(missing)) from None


@main.command()
@click.argument("before", type=RESULTS, callback=_results)
@click.argument("after", type=RESULTS, callback=_results)
def compare(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Show the changes between two results."""
    report.compare(before, after, Console(width=None if sys.stdout.isatty() else WIDTH))


@main.command()
@click.argument("results", type=RESULTS, callback=_results)
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def plot(results: dict[str, Any], folder: Path) -> None:
    """Draw results as SVG files in a folder."""
    for written in plots.draw(results, folder):
        click.echo(written)


@main.command("model")
def show_model() -> None:
    """Print the table of docs/scaling.md: the needs of fleets, computed from measured costs."""
    click.echo(model.table(model.Costs()), nl=False)


# Like Ctrl-C: processes that were started are ended.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
main()
