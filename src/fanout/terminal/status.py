"""The output of `fanout-node status`: the fleet as recorded in discovery, once or repeatedly."""

import json
from datetime import UTC, datetime

import attrs
import trio

from fanout.config import FleetConfig
from fanout.runtime.discovery.fleet import FleetReport, read_fleet
from fanout.runtime.net.world import fleet_world
from fanout.terminal.output import is_terminal, palette, write
from fanout.terminal.screen import Screen, Size, open_ending, open_screen
from fanout.terminal.table import (
    GREEN,
    PLAIN,
    RED,
    Column,
    Palette,
    as_table,
    few,
    state_colour,
    time_text,
)

PROBLEMS_SHARE = 3
"""Problems take at most this fraction of a screen: one third."""


def _unheard_colour(cell: str) -> str:
    return "" if cell == "-" else RED


COLUMNS = (
    Column("NODE"),
    Column("STATE", colour=state_colour),
    Column("REDIS", rank=2),
    Column("HEARTBEAT", rank=1),
    Column("FENCE", rank=4),
    Column("COVERED"),
    Column("UNHEARD BY", rank=3, colour=_unheard_colour),
    Column("INCARNATION", rank=5),
)


def fleet_text(fleet: FleetReport, *, palette: Palette = PLAIN) -> str:
    """Return a fleet as a table, with its problems below."""
    table = as_table(COLUMNS, _rows(fleet), palette=palette)
    return "\n".join([*table, "", _summary(fleet), *_verdict(fleet, palette)])


def fleet_values(fleet: FleetReport) -> dict[str, object]:
    """Return a fleet as an object for JSON."""
    return attrs.asdict(fleet)


def fleet_picture(
    fleet: FleetReport, head: str, size: Size, *, palette: Palette = PLAIN
) -> list[str]:
    """Return a fleet as lines that fit a terminal; what does not fit is counted."""
    verdict = few(_verdict(fleet, palette), max(1, size.lines // PROBLEMS_SHARE), "more problems")
    above = [head, _summary(fleet), *verdict, ""]
    rows = _rows(fleet)
    table = as_table(COLUMNS, rows, width=size.columns, palette=palette)
    return [*above, *few(table, size.lines - len(above), "more nodes")]


def _rows(fleet: FleetReport) -> list[tuple[str, ...]]:
    return [
        (
            node.id,
            node.state,
            node.redis,
            f"{node.heartbeat_age_seconds:.1f} s ago",
            node.fence,
            f"{len(node.covered_by)} of {len(fleet.sidecars)}",
            ", ".join(node.deaf) or "-",
            str(node.incarnation),
        )
        for node in fleet.nodes
    ]


def _summary(fleet: FleetReport) -> str:
    readable = sum(bool(each["readable"]) for each in fleet.discovery)
    return (
        f"cluster {fleet.cluster}: {len(fleet.nodes)} nodes, {len(fleet.sidecars)} sidecars, "
        f"{readable} of {len(fleet.discovery)} discovery instances"
    )


def _verdict(fleet: FleetReport, palette: Palette) -> list[str]:
    if fleet.whole:
        return [palette.paint("whole", GREEN)]
    return [f"{palette.paint('not whole', RED)}: {problem}" for problem in fleet.problems]


async def show_fleet(config: FleetConfig, *, as_json: bool) -> int:
    """Write the fleet once; return 0 when it is whole, else 1. Raises ConfigError, OutputFailed."""
    fleet = await read_fleet(config)
    if as_json:
        write(json.dumps(fleet_values(fleet), indent=2) + "\n")
    else:
        write(fleet_text(fleet, palette=palette()) + "\n")
    return 0 if fleet.whole else 1


async def watch_fleet(config: FleetConfig, every_seconds: float, *, as_json: bool) -> int:
    """Write the fleet at an interval until q or a signal; return 0 if it was whole last, else 1.

    On a terminal each report is drawn over the one before. Elsewhere, and with `as_json`, they
    follow each other, a line with the time above each or one JSON object a line.

    Raises:
        ConfigError: a file of certificates cannot be read.
        KeyboardInterrupt: a signal came before the first report.
        OutputFailed: standard output is closed or full.

    """
    world = fleet_world(config)
    last: list[FleetReport] = []

    async def watch(screen: Screen | None) -> None:
        while True:
            began = trio.current_time()
            last[:] = [await read_fleet(config, world=world)]
            _show(last[0], every_seconds, screen, as_json=as_json)
            await trio.sleep_until(began + every_seconds)

    if is_terminal() and not as_json:
        async with open_screen() as screen:
            await watch(screen)
    else:
        async with open_ending():
            await watch(None)
    if not last:
        raise KeyboardInterrupt
    return 0 if last[0].whole else 1


def _show(
    fleet: FleetReport, every_seconds: float, screen: Screen | None, *, as_json: bool
) -> None:
    now = time_text(datetime.now(UTC))
    if as_json:
        write(json.dumps({"time": now, **fleet_values(fleet)}) + "\n")
    elif screen is None:
        write(f"{now}\n{fleet_text(fleet)}\n\n")
    else:
        head = f"{now}  every {every_seconds:g} s, q quits"
        colours = palette()
        screen.draw(lambda size: fleet_picture(fleet, head, size, palette=colours))
