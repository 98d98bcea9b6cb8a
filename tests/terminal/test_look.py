"""A look at a sidecar fits the terminal, and every value is the feed's."""

from typing import Any

import attrs
import pytest

from fanout.core.live import (
    Live,
    LiveChannel,
    LiveClient,
    LiveDoor,
    LiveNode,
    LivePublishes,
)
from fanout.errors import FeedLost
from fanout.terminal.feed import Snapshot
from fanout.terminal.look import bytes_text, rate_text, share, snapshot_lines
from fanout.terminal.screen import Size
from fanout.terminal.table import Palette
from fanout.terminal.top import _lines

FINE = {
    "state": "active", "usable": True, "unheard_by_count": 0, "uncovered_by_count": 0,
    "probe_seconds": 0.1,
}  # fmt: skip


def values(kind: type, **given: Any) -> Any:
    """Return one of the feed's values, with something in every field."""
    blank = {"int": 7, "bool": False, "str": "x", "float": 1.5, "float | None": 1.5}
    fields = {
        field.name: blank.get(str(getattr(field.type, "__name__", field.type)), ())
        for field in attrs.fields(kind)
        if field.init
    }
    return kind(**{**fields, **given})


def look(count: int = 1, **given: Any) -> Snapshot:
    """Return a look with so many nodes, clients and channels."""
    numbers = range(count)
    live = values(
        Live,
        ready=True,
        at=0.0,
        sidecar="s-1",
        nodes=[
            values(LiveNode, **FINE, id=f"node-{n}", published_per_second=1234.5) for n in numbers
        ],
        consumers=[
            values(LiveClient, id=n, name="", door="ws", address="10.0.0.1:50000") for n in numbers
        ],
        consumers_count=count + 5,
        channels=[
            values(LiveChannel, name=f"room:{n}\x1b" + "x" * 70, received_per_second=0.25)
            for n in numbers
        ],
        doors=[values(LiveDoor, clients=3, delivered_per_second=20_000.0)],
        publishes=values(LivePublishes, failed={}, failed_per_second=0.0),
        discovery=(),
        sidecars=(),
    )
    return {"problems": [], **attrs.asdict(live), **given}


def test_everything_is_told_where_there_is_room() -> None:
    """Without a size nothing is cut; what others named is escaped."""
    lines = snapshot_lines(look(2))

    assert lines[:2] == [
        "1970-01-01T00:00:00Z  ready  s-1",
        "published 1.5/s  delivered 20,000/s  failed 0/s  clients 3  loop 1500.0ms late",
    ]
    assert lines[3].split() == [
        "NODE", "STATE", "PUB/S", "RECV/S", "OUTBOX", "PROBE", "GAPS", "ADDRESS",
    ]  # fmt: skip
    assert lines[4].split() == ["node-0", "active", "1,234", "1.5", "7", "100.0ms", "7", "x"]
    assert lines[7].startswith("CLIENT 2 of 7  DOOR")
    assert lines[-1].split() == ["room:1\\x1b" + "x" * 70, "1.5", "0.2"]


@pytest.mark.parametrize("size", [Size(80, 24), Size(60, 14), Size(200, 60)])
@pytest.mark.parametrize("count", [0, 1, 3, 100])
@pytest.mark.parametrize("trouble", ["", "lost " * 50])
def test_a_look_fits_the_terminal(size: Size, count: int, trouble: str) -> None:
    """Rows are left out, lines are not cut; every section keeps a row while there is one."""
    problems = [{"level": "error", "text": "wrong " * 40}] * count
    lines = snapshot_lines(look(count, problems=problems), size, trouble=trouble)

    assert len(lines) <= size.lines
    assert max(map(len, lines)) <= size.columns
    if count:
        assert all(
            sum(line.startswith(start) for line in lines) >= 1 for start in ("node-", "room:")
        )


def test_what_is_wrong_is_coloured() -> None:
    """By its level."""
    problems = [{"level": "error", "text": "bad"}, {"level": "warning", "text": "odd"}]
    shown = look(problems=problems, ready=False)
    text = "\n".join(snapshot_lines(shown, palette=Palette(on=True)))

    assert "\x1b[31mbad\x1b[0m" in text
    assert "\x1b[33modd\x1b[0m" in text
    assert "\x1b[31mnot ready\x1b[0m" in text


@pytest.mark.parametrize(
    ("facts", "shown"),
    [
        ({}, "\x1b[32mactive"),
        ({"unheard": True}, "\x1b[31mnot heard"),
        ({"usable": False}, "\x1b[31munreachable"),
        ({"state": "joining"}, "\x1b[33mjoining"),
    ],
)
def test_a_node_has_the_word_that_matters_most(facts: dict[str, Any], shown: str) -> None:
    """Red where messages are lost or refused, yellow where they may be."""
    node = attrs.asdict(values(LiveNode, **{**FINE, **facts}))
    lines = snapshot_lines(look(nodes=[node]), palette=Palette(on=True))

    assert any(f"  {shown}\x1b[0m" in line for line in lines)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.0, "0"), (0.04, "0.0"), (9.94, "9.9"), (10.4, "10"), (1234567.0, "1,234,567")],
)
def test_a_rate_is_short(value: float | None, text: str) -> None:
    """Nothing known is not nothing."""
    assert rate_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1023, "1023"), (1024, "1K"), (8 * 1024**2, "8M"), (3 * 1024**3, "3.0G")],
)
def test_a_size_is_short(value: int, text: str) -> None:
    """In units of memory."""
    assert bytes_text(value) == text


@pytest.mark.parametrize(
    ("wanted", "room", "given"),
    [
        ((3, 24, 9), 16, [3, 7, 6]),
        ((3, 24, 9), 100, [3, 24, 9]),
        ((5, 5, 5), 2, [1, 1, 0]),
        ((5, 5, 5), -1, [0, 0, 0]),
        ((0, 9, 0), 4, [0, 4, 0]),
    ],
)
def test_rows_are_shared(wanted: tuple[int, ...], room: int, given: list[int]) -> None:
    """Small tables get all they want."""
    assert share(wanted, room) == given


@pytest.mark.parametrize("change", [{"nodes": None}, {"doors": [{}]}, {"at": "now"}])
def test_a_look_of_another_form_is_no_traceback(change: dict[str, Any]) -> None:
    """As of a sidecar of a later version."""
    with pytest.raises(FeedLost, match=r"unsupported sidecar version 0\.9"):
        _lines({**look(), "version": "0.9", **change})
