"""What is written to redraw a terminal."""

import pytest

from fanout.terminal import screen
from fanout.terminal.screen import BEGIN, END, HOME, LINE_END, SCREEN_END, Screen, Size


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (["ab", "c"], f"ab{LINE_END}\r\nc{LINE_END}\r\n{SCREEN_END}"),
        (
            ["abcd", "\x1b[31m\u6e2c\u8a66\x1b[0m"],
            f"abcd\r\n\x1b[31m\u6e2c\u8a66\x1b[0m\r\n{SCREEN_END}",
        ),
        (["a", "abcde", "abcd", "x"], f"a{LINE_END}\r\nabc…\r\nabcd"),
        ([], SCREEN_END),
    ],
)
def test_a_picture_erases_the_one_before_but_not_itself(
    monkeypatch: pytest.MonkeyPatch, lines: list[str], text: str
) -> None:
    """Behind a full line the cursor stands on its last character: erasing from there would lose it."""
    written: list[str] = []
    monkeypatch.setattr(screen, "write", written.append)
    monkeypatch.setattr(screen, "_size", lambda: Size(4, 3))
    Screen().draw(lambda _size: lines)

    assert written == [f"{BEGIN}{HOME}{text}{END}"]
