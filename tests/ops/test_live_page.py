"""The live page and what the docs say of its feed follow the code."""

import ast
import re
from pathlib import Path
from typing import Any, get_args

import attrs
import pytest

from fanout.core import live

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs/ops/live-page.md").read_text()
PAGE = (ROOT / "src/fanout/runtime/admin/live_page.html").read_text()


def parts(field: "attrs.Attribute[Any]") -> type | None:
    """Return the class of what a field of a look consists of, if it is one of ours."""
    found = [each for each in (field.type, *get_args(field.type)) if attrs.has(each)]
    return found[0] if found else None


@pytest.mark.parametrize("field", attrs.fields(live.Live), ids=lambda field: field.name)
def test_the_docs_name_every_field_of_a_look(field: "attrs.Attribute[Any]") -> None:
    """In the row of its own; and no other fields."""
    pattern = re.compile(rf"\| (`\w+`, )*`{field.name}`")
    (line,) = [each for each in DOCS.splitlines() if pattern.match(each)]
    part = parts(field)
    if part is not None:
        _, told = line.rsplit(" | ", 1)
        assert re.findall(r"`(\w+)`", told) == [each.name for each in attrs.fields(part)]


def test_the_page_has_a_sentence_for_everything_that_happens() -> None:
    """Whatever is kept for it, by the name under which it is kept."""
    told = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            if re.search(r"member_log\.\w+$", ast.unparse(node.func)):
                told |= {
                    each.value
                    for argument in node.args
                    for each in ast.walk(argument)
                    if isinstance(each, ast.Constant) and "_" in str(each.value)
                }
    sentences = re.findall(r"^  (\w+): (?:e|\(\)) => ", PAGE, re.MULTILINE)

    assert len(told) > 10
    assert set(sentences) == told


def test_the_page_asks_nobody_else_and_writes_no_markup() -> None:
    """What a channel is called must never become an element, or a request."""
    assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)[^`\s'\"]*", PAGE) == []
    for writes in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert writes not in PAGE
