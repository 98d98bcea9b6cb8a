"""What the commands show to people."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the runtime is loaded only when it is needed
    from fanout.runtime.fleet import FleetReport

_HEAD = ("NODE", "STATE", "REDIS", "HEARTBEAT", "FENCE", "COVERED", "DEAF", "INCARNATION")


def as_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows as lines, below their heads and as wide as their longest cells."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    )


def as_text(fleet: "FleetReport") -> str:
    """Return a fleet as a table, with what is wrong below it."""
    rows = [
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
    lines = [as_table(_HEAD, rows)]
    readable = sum(bool(each["readable"]) for each in fleet.discovery)
    lines.append("")
    lines.append(
        f"cluster {fleet.cluster}: {len(fleet.nodes)} nodes, {len(fleet.sidecars)} sidecars, "
        f"{readable} of {len(fleet.discovery)} discovery instances"
    )
    lines += [f"not whole: {problem}" for problem in fleet.problems] or ["whole"]
    return "\n".join(lines)
