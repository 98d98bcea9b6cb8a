"""The picture of a fleet fits the terminal, and says what is wrong before anything else."""

from typing import Any

import attrs
import pytest

from fanout.core.report import FleetReport, NodeReport
from fanout.terminal.screen import Size
from fanout.terminal.status import fleet_picture, fleet_text
from fanout.terminal.table import Palette
from fanout.values.names import NodeId, SidecarId

HEAD = "now"


def node(number: int, **values: Any) -> NodeReport:
    """Return an active node with a long name."""
    whole = NodeReport(
        id=NodeId(f"node-{number}.{'x' * 30}"),
        state="active",
        incarnation=1_795_648_738_943,
        redis="10.20.30.40:63790",
        fence="acl",
        heartbeat_age_seconds=0.25,
        covered_by=(SidecarId("s"),),
        not_covered_by=(),
        deaf=(),
    )
    return attrs.evolve(whole, **values)


def fleet(*nodes: NodeReport, problems: tuple[str, ...] = ()) -> FleetReport:
    """Return a fleet."""
    discovery = ({"instance": "d:1", "readable": True, "error": ""},)
    return FleetReport(
        cluster="c",
        whole=not problems,
        problems=problems,
        discovery=discovery,
        nodes=nodes,
        sidecars=(),
    )


def test_states_and_verdict_are_coloured() -> None:
    """Green is healthy; red needs attention."""
    problems = ("node b is draining",)
    text = fleet_text(
        fleet(node(1), node(2, state="draining", deaf=(SidecarId("s"),)), problems=problems),
        palette=Palette(on=True),
    )

    assert "\x1b[32mactive\x1b[0m" in text
    assert "\x1b[33mdraining\x1b[0m" in text
    assert "\x1b[31ms\x1b[0m" in text
    assert text.endswith("\x1b[31mnot whole\x1b[0m: node b is draining")
    assert fleet_text(fleet(node(1))).endswith("\nwhole")


@pytest.mark.parametrize("size", [Size(80, 24), Size(40, 10), Size(200, 60)])
@pytest.mark.parametrize("count", [0, 3, 100])
def test_the_picture_fits(size: Size, count: int) -> None:
    """However many nodes and problems there are; those that are not shown are counted."""
    nodes = [node(number) for number in range(count)]
    problems = tuple(f"node {number} is draining" for number in range(count))
    lines = fleet_picture(fleet(*nodes, problems=problems), HEAD, size)

    assert lines[0] == HEAD
    assert len(lines) <= size.lines
    table = lines[lines.index("") + 1 :]
    assert max(map(len, table)) <= size.columns
    if count == 100:
        shown = sum(line.startswith("node-") for line in table)
        assert table[-1] == f"... {100 - shown} more nodes"
        told = sum(line.startswith("not whole: ") for line in lines)
        assert f"... {100 - told} more problems" in lines
