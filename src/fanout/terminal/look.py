"""A snapshot of a sidecar as lines: problems, then rates by node, client and channel.

The rates are those of the sidecar's live feed, as on its live page; none is computed here.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.cells import cell_len

from fanout.runtime.process.text import escape
from fanout.terminal.feed import Snapshot
from fanout.terminal.screen import Size
from fanout.terminal.table import (
    GAP,
    GREEN,
    PLAIN,
    RED,
    YELLOW,
    Column,
    Palette,
    as_table,
    few,
    shorten,
    state_colour,
    time_text,
)

PROBLEMS_SHARE = 6
"""Problems take at most this fraction of a screen: one sixth."""

LEVEL_COLOURS = {"error": RED, "warning": YELLOW}

Row = tuple[str, ...]


NODES = (
    Column("NODE"),
    Column("STATE", colour=state_colour),
    Column("PUB/S", right=True),
    Column("RECV/S", right=True),
    Column("OUTBOX", right=True, rank=1),
    Column("PROBE", right=True, rank=2),
    Column("GAPS", right=True, rank=3),
    Column("ADDRESS", rank=4),
)
CLIENTS = (
    Column("CLIENT"),
    Column("DOOR"),
    Column("PUB/S", right=True),
    Column("DELIV/S", right=True),
    Column("OUTBOX", right=True, rank=1),
    Column("SUBS", right=True, rank=2),
    Column("ADDRESS", rank=3),
)
CHANNELS = (Column("CHANNEL"), Column("PUB/S", right=True), Column("RECV/S", right=True))

Section = tuple[Sequence[Column], Sequence[Row], int]
"""Columns and rows of a table, and the number of rows including those not in the snapshot."""


def rate_text(value: float | None) -> str:
    """Return a rate as text: with a decimal below 10, a dash if unknown."""
    if value is None:
        return "-"
    return f"{value:.1f}" if 0 < value < 10 else f"{value:,.0f}"  # noqa: PLR2004 - two digits


def bytes_text(value: float) -> str:
    """Return a size in bytes as text, with a unit."""
    for unit in ("", "K", "M"):
        if value < 1024:  # noqa: PLR2004 - binary units
            return f"{value:.0f}{unit}"
        value /= 1024
    return f"{value:.1f}G"


def share(wanted: Sequence[int], room: int) -> list[int]:
    """Return the number of rows for each section: small ones get all, the others equal shares."""
    given = [0] * len(wanted)
    while room > 0 and any(g < w for g, w in zip(given, wanted, strict=True)):
        for n, want in enumerate(wanted):
            if given[n] < want and room > 0:
                given[n] += 1
                room -= 1
    return given


def sections(snapshot: Snapshot) -> list[Section]:
    """Return the tables of nodes, clients and channels."""
    nodes = [
        (
            escape(each["id"]),
            escape(each["word"]),
            rate_text(each["published_per_second"]),
            rate_text(each["received_per_second"]),
            bytes_text(each["outbox_bytes"]),
            _milliseconds(each["probe_seconds"]),
            str(each["gaps"]),
            escape(each["address"]),
        )
        for each in snapshot["nodes"]
    ]
    clients = [
        (
            escape(each["name"]) or str(each["id"]),
            each["door"],
            rate_text(each["published_per_second"]),
            rate_text(each["delivered_per_second"]),
            bytes_text(each["outbox_bytes"]),
            str(each["subscriptions"]),
            escape(each["address"]),
        )
        for each in snapshot["consumers"]
    ]
    channels = [
        (
            escape(each["name"]),
            rate_text(each["published_per_second"]),
            rate_text(each["received_per_second"]),
        )
        for each in snapshot["channels"]
    ]
    return [
        (NODES, nodes, len(nodes)),
        (CLIENTS, clients, snapshot["consumers_count"]),
        (CHANNELS, channels, len(channels)),
    ]


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.1f}ms"


def _sums(snapshot: Snapshot) -> list[str]:
    """Return the totals of all clients, the most important first."""
    doors = snapshot["doors"]
    publishes = snapshot["publishes"]
    delivered = [each["delivered_per_second"] for each in doors]
    known = None if None in delivered else sum(delivered)
    return [
        f"published {rate_text(publishes['executed_per_second'])}/s",
        f"delivered {rate_text(known)}/s",
        f"failed {rate_text(publishes['failed_per_second'])}/s",
        f"clients {sum(each['clients'] for each in doors)}",
        f"loop {_milliseconds(snapshot['loop_lag_seconds'])} late",
    ]


def _joined(parts: Sequence[str], width: int | None) -> str:
    """Return as many parts as fit on one line."""
    line = parts[0]
    for part in parts[1:]:
        if width is not None and cell_len(line + GAP + part) > width:
            break
        line += GAP + part
    return line


def snapshot_lines(
    snapshot: Snapshot, size: Size | None = None, *, trouble: str = "", palette: Palette = PLAIN
) -> list[str]:
    """Return a snapshot as lines. To fit `size`, rows are left out and counted.

    `trouble` is why the connection is lost, if it is.
    """
    at = time_text(datetime.fromtimestamp(snapshot["at"], UTC))
    ready = palette.paint("ready", GREEN) if snapshot["ready"] else palette.paint("not ready", RED)
    head = f"{at}{GAP}{ready}{GAP}{escape(snapshot['sidecar'])}"
    width = None if size is None else size.columns
    lines = [head, _joined(_sums(snapshot), width)]
    found = [("error", f"disconnected: {trouble}")] if trouble else []
    found += [(each["level"], escape(each["text"])) for each in snapshot["problems"]]
    problems = [
        palette.paint(
            text if width is None else shorten(text, width), LEVEL_COLOURS.get(level, YELLOW)
        )
        for level, text in found
    ]
    most = len(problems) if size is None else max(1, size.lines // PROBLEMS_SHARE)
    lines += few(problems, most, "more problems")
    tables = sections(snapshot)
    given = [len(rows) for _, rows, _ in tables]
    if size is not None:
        given = share(given, size.lines - len(lines) - 2 * len(tables))
    for (columns, rows, count), shown in zip(tables, given, strict=True):
        title = columns[0].title if shown == count else f"{columns[0].title} {shown} of {count}"
        named = (Column(title), *columns[1:])
        lines += ["", *as_table(named, rows[:shown], width=width, palette=palette)]
    return lines
