"""Draws results as SVG for light and dark pages."""

import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import attrs
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from bench.figures import PERCENTILES, middle, span
from bench.report import short

INK = "#010203"
"""Placeholder colour, used for nothing else: it is replaced by the text colour of the page."""

STYLE = (
    "<style>svg { color: #24292f } "
    "@media (prefers-color-scheme: dark) { svg { color: #e6edf3 } }</style>"
)
COLOURS = (
    *("#3b82f6", "#f97316", "#16a34a", "#a855f7"),
    *("#e11d48", "#0d9488", "#ca8a04", "#64748b"),
)
MARKERS = "osD^vPX*"
SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fanout",
    "font.family": "sans-serif",
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "legend.frameon": False,
}

Scenario = dict[str, Any]


@attrs.frozen
class Line:
    """A system in a plot: for each x the median, minimum and maximum of the rounds."""

    x: list[float]
    middle: list[float]
    low: list[float]
    high: list[float]


@attrs.frozen
class Plot:
    """A picture: its scenarios, and the figures drawn."""

    file: str
    title: str
    plot: str
    lines: Callable[[Iterable[Scenario]], dict[str, Line]]
    x: str
    y: str


def over(key: str) -> Callable[[Iterable[Scenario]], dict[str, Line]]:
    """Return a function that makes lines of a figure of each system over the scenarios' `at`."""

    def lines(scenarios: Iterable[Scenario]) -> dict[str, Line]:
        found: dict[str, Line] = {}
        for scenario in sorted(scenarios, key=lambda each: float(each["at"])):
            for name, trials in scenario["systems"].items():
                line = found.setdefault(name, Line([], [], [], []))
                low, high = span(trials)[key]
                line.x.append(scenario["at"])
                line.middle.append(middle(trials)[key])
                line.low.append(low)
                line.high.append(high)
        return found

    return lines


def latencies(scenarios: Iterable[Scenario]) -> dict[str, Line]:
    """Return the latency percentiles of each system, at their place in PERCENTILES."""
    places = [float(place) for place in range(len(PERCENTILES))]
    keys = [f"latency_us.p{percentile:g}" for percentile in PERCENTILES]
    return {
        name: Line(
            places,
            [middle(trials)[key] for key in keys],
            [span(trials)[key][0] for key in keys],
            [span(trials)[key][1] for key in keys],
        )
        for scenario in scenarios
        for name, trials in scenario["systems"].items()
    }


def on_nodes(scenarios: Iterable[Scenario]) -> dict[str, Line]:
    """Return the CPU time per message of all Redis servers; with other servers, if any, as well."""
    chosen = list(scenarios)
    redis = over("cpu_us_per_message.redis")(chosen)
    everything = over("cpu_us_per_message")(chosen)
    with_others = {
        f"{name}, with sidecars and agents": line
        for name, line in everything.items()
        if line != redis[name]
    }
    return redis | with_others


PLOTS = (
    Plot(
        "bench-fan-out.svg", "Fan-out: deliveries by subscribers, 4 unpipelined publishers",
        "fan-out", over("deliveries_per_second"), "subscribers", "deliveries a second",
    ),
    Plot(
        "bench-fan-out-cpu.svg", "Fan-out: CPU of all servers a delivery, unpipelined publishers",
        "fan-out", over("cpu_us_per_delivery"), "subscribers", "µs of CPU a delivery",
    ),
    Plot(
        "bench-latency.svg", "Latency at 1000 messages a second to 10 subscribers",
        "latency", latencies, "percentile", "µs",
    ),
    Plot(
        "bench-nodes.svg", "CPU of all Redis a message, two subscribers",
        "nodes", on_nodes, "nodes", "µs of CPU a message",
    ),
)  # fmt: skip


def draw(results: dict[str, Any], folder: Path) -> list[Path]:
    """Write a picture for each of PLOTS that has results; return their paths."""
    written = []
    for plot in PLOTS:
        lines = plot.lines(each for each in results["scenarios"] if each["plot"] == plot.plot)
        if lines:
            path = folder / plot.file
            path.write_text(svg(plot, lines, caption(results)))
            written.append(path)
    return written


def caption(results: dict[str, Any]) -> str:
    """Return the caption: machine, versions and rounds."""
    about = results["about"]
    return (
        f"{about['date']} · {about['cpus']} CPUs of {about['machine']} · Linux {about['kernel']}"
        f" · median and range of {results['rounds']} rounds of {results['seconds']:g} s\n"
        f"fanout {about['fanout']} ({about['commit']}) · Python {about['python']}"
        f" · Redis {about['redis']} · nats-server {about['nats']}"
        f" · Node.js {about['node']} · nginx {about['nginx']}"
    )


def svg(plot: Plot, lines: dict[str, Line], note: str) -> str:
    """Return one picture. Pictures of the same systems use the same colours."""
    with rc_context(SETTINGS):
        figure = Figure(figsize=(8, 5), layout="constrained")
        axes = figure.subplots()
        for number, (name, line) in enumerate(lines.items()):
            colour = COLOURS[number % len(COLOURS)]
            axes.plot(
                line.x, line.middle, label=name, color=colour,
                marker=MARKERS[number % len(MARKERS)], markersize=5,
            )  # fmt: skip
            axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.1, linewidth=0)
        axes.set_title(plot.title, loc="left")
        axes.set_xlabel(plot.x)
        axes.set_ylabel(plot.y)
        _scales(axes, lines, percentiles=plot.lines is latencies)
        axes.grid(color=INK, alpha=0.15)
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside right upper")
        figure.supxlabel(note, fontsize=7, x=0.01, ha="left")
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return _coloured(text.getvalue())


def _coloured(text: str) -> str:
    """Return a picture with INK replaced by the text colour of the surrounding page."""
    head, defs, rest = text.replace(INK, "currentColor").partition("<defs>")
    return f"{head}{STYLE}{defs}{rest}"


def _scales(axes: Axes, lines: dict[str, Line], *, percentiles: bool) -> None:
    ticks = sorted({x for line in lines.values() for x in line.x})
    if not percentiles:
        axes.set_xscale("log")
    names = [f"p{each:g}" for each in PERCENTILES] if percentiles else [short(x) for x in ticks]
    axes.set_xticks(ticks, names)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axes.minorticks_off()
