"""Shows results: a table in the terminal, and what changed between two runs."""

from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from bench.runner import middle

_COLUMNS = (
    ("msg/s", "messages_per_second", "{:.0f}"),
    ("out/s", "deliveries_per_second", "{:.0f}"),
    ("CPU us/msg", "cpu_us_per_message", "{:.2f}"),
    ("CPU us/out", "cpu_us_per_delivery", "{:.3f}"),
    ("p50 us", "latency_us.p50", "{:.0f}"),
    ("p99 us", "latency_us.p99", "{:.0f}"),
)


def show(results: dict[str, Any]) -> None:
    """Print one table a scenario: medians, and below each its ratio to the first system."""
    console = Console()
    console.print(", ".join(f"{name} {value}" for name, value in results["about"].items()))
    for scenario in results["scenarios"]:
        table = _table(scenario["name"], "system")
        base = None
        for name, trials in scenario["systems"].items():
            figures = middle(trials)
            base = base or figures
            cells = [
                f"{form.format(figures[key])}\n{figures[key] / base[key]:.2f}"
                for _, key, form in _COLUMNS
            ]
            table.add_row(name, *cells)
        console.print(table)
        for name, why in scenario["without"].items():
            console.print(f"  without {name}: {why}")


def compare(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Print after / before of each figure of each system that both runs have."""
    table = _table("after / before", "scenario", "system")
    old = {each["name"]: each["systems"] for each in before["scenarios"]}
    for scenario in after["scenarios"]:
        for name, trials in scenario["systems"].items():
            if was := old.get(scenario["name"], {}).get(name):
                a, b = middle(was), middle(trials)
                table.add_row(
                    scenario["name"], name, *(f"{b[key] / a[key]:.2f}" for _, key, _ in _COLUMNS)
                )
    Console().print(table)


def _table(title: str, *names: str) -> Table:
    table = Table(*names, title=title, title_justify="left", box=SIMPLE)
    for heading, _, _ in _COLUMNS:
        table.add_column(heading, justify="right", no_wrap=True)
    return table
