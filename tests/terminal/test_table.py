"""Tables fit where they are shown, and colours take no room."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.runtime.process.text import escape
from fanout.terminal.table import (
    CELL_MIN,
    GREEN,
    RED,
    Column,
    Palette,
    as_table,
    cut,
    shorten,
)

COLUMNS = (
    Column("NAME"),
    Column("STATE", colour=lambda cell: GREEN if cell == "up" else RED),
    Column("COUNT", right=True, rank=1),
    Column("NOTE", rank=2),
)
ROWS = (("a", "up", "7", "x" * 30), ("b" * 10, "down", "1234567", ""))
SEQUENCE = re.compile(r"\x1b\[[0-9;]*m")


def test_cells_stand_below_their_heads() -> None:
    """Numbers to the right; nothing stands behind the last cell."""
    assert as_table(COLUMNS, ROWS) == [
        "NAME        STATE    COUNT  NOTE",
        "a           up           7  " + "x" * 30,
        "bbbbbbbbbb  down   1234567",
    ]


def test_colours_change_nothing_but_the_colour() -> None:
    """The same lines, once the sequences are taken out; the words are coloured, not the room."""
    plain = as_table(COLUMNS, ROWS)
    coloured = as_table(COLUMNS, ROWS, palette=Palette(on=True))

    assert [SEQUENCE.sub("", line) for line in coloured] == plain
    assert "\x1b[32mup\x1b[0m  " in coloured[1]
    assert "\x1b[31mdown\x1b[0m " in coloured[2]


@pytest.mark.parametrize(
    ("width", "first"),
    [
        (100, "NAME        STATE    COUNT  NOTE"),
        (40, "NAME        STATE    COUNT"),
        (20, "NAME        STATE"),
        (15, "NAME      STATE"),
    ],
)
def test_a_narrow_table_loses_columns_by_rank_then_room(width: int, first: str) -> None:
    """What tells least goes first; then the widest cells are cut, and marked."""
    table = as_table(COLUMNS, ROWS, width=width)

    assert table[0] == first
    assert max(map(len, table)) <= width
    assert ("…" in table[2]) is (width < 17)


@given(st.integers(4, 60), st.lists(st.text("ab ", max_size=30), max_size=5))
def test_a_table_is_never_wider_than_asked_while_cells_can_shrink(
    width: int, names: list[str]
) -> None:
    """Down to a least width of each column that stays."""
    table = as_table(COLUMNS, [(name, "up", "1", "") for name in names], width=width)

    assert all(len(line) <= max(width, CELL_MIN + 2 + len("STATE")) for line in table)


def test_a_line_is_cut_by_what_is_seen_of_it() -> None:
    """Sequences take no room, and the one that ends a colour is kept; a mark says that it was cut."""
    line = f"ab{Palette(on=True).paint('cdef', RED)}gh"

    assert cut(line, 4) == "ab\x1b[31mc\x1b[0m…"
    assert cut(line, 8) == cut(line, 100) == line
    assert SEQUENCE.sub("", cut(line, 7)) == "abcdef…"
    assert (shorten("abcdef", 4), shorten("abcd", 4)) == ("abc…", "abcd")


def test_a_wide_character_takes_two_columns() -> None:
    """Cells stay below their heads, and a character is not halved by a cut."""
    wide = "\u6e2c\u8a66" * 3  # each is two columns wide
    assert as_table(COLUMNS[:2], [(wide, "up"), ("a" * 12, "up")]) == [
        "NAME          STATE",
        f"{wide}  up",
        f"{'a' * 12}  up",
    ]
    assert (shorten(wide, 12), shorten(wide, 6), shorten(wide, 5)) == (
        wide,
        f"{wide[:2]} \u2026",
        f"{wide[:2]}\u2026",
    )
    assert cut(f"a{Palette(on=True).paint(wide, RED)}", 6) == f"a\x1b[31m{wide[:2]}\x1b[0m\u2026"


@given(st.text())
def test_what_others_say_cannot_speak_to_a_terminal(text: str) -> None:
    """Nothing is left that moves the cursor, ends a line or changes a colour."""
    shown = escape(text)

    assert shown.isprintable()
    assert not text.isprintable() or shown == text


def test_a_palette_without_colours_leaves_texts_alone() -> None:
    """As in a pipe."""
    assert Palette().paint("x", RED) == "x"
    assert Palette(on=True).paint("x", "") == "x"
