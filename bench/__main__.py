"""`python -m bench`: see docs/performance.md."""

import json
import signal
import sys
from pathlib import Path

import click

from bench import report, runner
from bench.scenarios import scenarios


@click.group()
def main() -> None:
    """Measure fanout beside its peers. Results are ratios within one run."""


@main.command()
@click.option("--quick", is_flag=True, help="Few scenarios, one short round: under two minutes.")
@click.option("--only", default="", help="Scenarios whose name contains this.")
@click.option("--rounds", default=5, show_default=True, help="Rounds; the median is shown.")
@click.option("--seconds", default=2.0, show_default=True, help="Length of one trial.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Write the results there.")
def run(*, quick: bool, only: str, rounds: int, seconds: float, path: Path | None) -> None:
    """Run the scenarios and print a table of each."""
    chosen = [each for each in scenarios() if only in each.name and (each.quick or not quick)]
    if not chosen:
        raise click.UsageError(f"no scenario is called {only!r}")
    if quick:
        rounds, seconds = 1, 0.5
    results = runner.run(chosen, rounds=rounds, seconds=seconds)
    if path is not None:
        path.write_text(json.dumps(results, indent=1))
    report.show(results)


@main.command()
@click.argument("before", type=click.Path(exists=True, path_type=Path))
@click.argument("after", type=click.Path(exists=True, path_type=Path))
def compare(before: Path, after: Path) -> None:
    """Show what changed between two results."""
    report.compare(json.loads(before.read_text()), json.loads(after.read_text()))


# As Ctrl-C does: what was started is ended.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
main()
