"""Prints results as tables, and the changes between two runs."""

from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from bench.figures import Figures, middle, span

_COLUMNS = (
    ("msg/s", "messages_per_second"),
    ("out/s", "deliveries_per_second"),
    ("CPU us/msg", "cpu_us_per_message"),
    ("Redis us/msg", "cpu_us_per_message.redis"),
    ("CPU us/out", "cpu_us_per_delivery"),
    ("p50 us", "latency_us.p50"),
    ("p99 us", "latency_us.p99"),
    ("p99.9 us", "latency_us.p99.9"),
    ("idle MiB", "idle_mib"),
    ("added MiB", "added_mib"),
    ("KiB/client", "kib_per_client"),
    ("B/channel", "bytes_per_channel"),
    ("join s", "join_seconds"),
    ("drain s", "drain_seconds"),
    ("back s", "back_seconds"),
    ("subscribed s", "resubscribe_seconds"),
    ("lost", "lost"),
    ("generator", "generator_busy"),
)
_NO_RATIO = {"lost", "generator_busy"}
_SUFFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def show_head(results: dict[str, Any], console: Console) -> None:
    """Print the facts about the machine, and the throughput of the load generator alone."""
    console.print(", ".join(f"{name} {value}" for name, value in results["about"].items()))
    table = Table("the load generator alone", "", box=SIMPLE)
    for name, value in results["ceiling"].items():
        table.add_row(name.replace("_", " "), short(value))
    console.print(table)


def show_scenario(scenario: dict[str, Any], console: Console) -> None:
    """Print medians, their ratios to the first system, and ranges."""
    systems = scenario["systems"]
    middles = {name: middle(trials) for name, trials in systems.items()}
    columns = [each for each in _COLUMNS if any(each[1] in figures for figures in middles.values())]
    table = _table(scenario["name"], columns, "system")
    base = next(iter(middles.values()), {})
    for name, trials in systems.items():
        spans = span(trials)
        cells = [
            _cell(middles[name], base, spans, key, several=len(trials) > 1) for _, key in columns
        ]
        table.add_row(name, *cells)
    console.print(table)
    for name, why in scenario["without"].items():
        console.print(f"  without {name}: {why}", highlight=False)


def _cell(
    figures: Figures, base: Figures, spans: dict[str, tuple[float, float]], key: str,
    *, several: bool,
) -> str:  # fmt: skip
    if key not in figures:
        return ""
    lines = [short(figures[key])]
    if key in base and key not in _NO_RATIO:
        lines.append(f"x {ratio(base[key], figures[key])}")
    if several:
        lines.append("..".join(short(end) for end in spans[key]))
    return "\n".join(lines)


def short(value: float) -> str:
    """Return a figure with three digits: 1.23M."""
    for unit, suffix in _SUFFIXES:
        if value >= 0.9995 * unit:
            return f"{value / unit:.3g}{suffix}"
    return f"{value:.3g}"


def ratio(before: float, after: float) -> str:
    """Return after / before, or a dash after nothing."""
    return f"{after / before:.2f}" if before else "-"


def compare(before: dict[str, Any], after: dict[str, Any], console: Console) -> None:
    """Print after / before of each figure of each system that both runs have."""
    old = {each["name"]: each["systems"] for each in before["scenarios"]}
    for scenario in after["scenarios"]:
        rows = {
            name: (middle(was), middle(trials))
            for name, trials in scenario["systems"].items()
            if (was := old.get(scenario["name"], {}).get(name))
        }
        columns = [
            each
            for each in _COLUMNS
            if any(each[1] in was and each[1] in now for was, now in rows.values())
        ]
        if not columns:
            continue
        table = _table(f"{scenario['name']}: after / before", columns, "system")
        for name, (was, now) in rows.items():
            cells = [
                ratio(was[key], now[key]) if key in was and key in now else "" for _, key in columns
            ]
            table.add_row(name, *cells)
        console.print(table)


def _table(title: str, columns: list[tuple[str, str]], name: str) -> Table:
    table = Table(name, title=title, title_justify="left", box=SIMPLE)
    for heading, _ in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    return table
