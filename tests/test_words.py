"""The English of the house: plain words that a reader would search for."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.sources import ROOT

RIDDLES = re.compile(r"\b(?:nobody|somebody|whoever|anybody|everybody)\b", re.IGNORECASE)
FORMER = re.compile(r"serve[-_]anybody", re.IGNORECASE)
"""The former name of an option, which its notes still tell."""

TEXTS = [
    path
    for folder in ("src", "cli", "docs", "examples")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in (".py", ".md", ".html", ".yml", ".yaml", ".js", ".json", ".service", ".vcl")
] + [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]


def riddles(text: str) -> Iterator[str]:
    """Yield the words of a text that name no one in particular."""
    yield from RIDDLES.findall(FORMER.sub("", text))


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_texts_name_who_they_mean(path: Path) -> None:
    """A client, a sidecar, an agent: not somebody."""
    assert list(riddles(path.read_text())) == []


def test_a_riddle_is_seen() -> None:
    """In any case, but not within the former name of an option."""
    assert list(riddles("Whoever asks; nobody is told")) == ["Whoever", "nobody"]
    assert list(riddles("`--serve-anybody`, FANOUT_SERVE_ANYBODY")) == []
