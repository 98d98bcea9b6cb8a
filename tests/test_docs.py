"""The pages: built strictly, links that lead somewhere, and what they list is what there is."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from fanout.values.records import DrainRequest, Identity, NodeRecord, SidecarRecord
from fanout.wire import records
from tests.support import diagrams
from tests.support.documents import DOCS, blocks
from tests.support.reference import PAGE, page
from tests.support.sources import SOURCES

ROOT = DOCS.parent
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
RUNBOOK = DOCS / "ops/runbook.md"


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """Every page is in the nav, every link and anchor between pages exists."""
    done = subprocess.run(
        [
            sys.executable, "-m", "mkdocs", "build", "--strict",
            "-f", str(ROOT / ".mkdocs.yml"), "-d", str(tmp_path),
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "how-to/tls/index.html").exists()
    for name, heading in (("changelog", "[Unreleased]"), ("contributing", "Commit messages")):
        assert f">{heading}<" in (tmp_path / name / "index.html").read_text()


def anchors(file: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings}


def dead_links(file: Path) -> Iterator[str]:
    """Yield the links of a file that lead nowhere in this repository."""
    for link in LINK.findall(file.read_text()):
        target, _, anchor = link.partition("#")
        if target.startswith("https://"):
            continue
        there = (file.parent / target) if target else file
        if not there.exists() or (anchor and anchor not in anchors(there)):
            yield link


def test_the_readme_links_to_what_exists(tmp_path: Path) -> None:
    """Files and headings; a link to nothing is seen."""
    assert list(dead_links(ROOT / "README.md")) == []

    page = tmp_path / "page.md"
    page.write_text("# One two\n[a](#one-two) [b](#three) [c](none.md) [d](https://x.example)")
    assert list(dead_links(page)) == ["#three", "none.md"]


def test_the_configuration_page_is_that_of_the_code() -> None:
    """After a change of options: python -m tests.support.reference."""
    assert PAGE.read_text() == page(), "run python -m tests.support.reference"


def test_the_diagrams_are_those_of_the_code() -> None:
    """After a change of a table of moves: python -m tests.support.diagrams."""
    text = diagrams.PAGE.read_text()

    assert text == diagrams.page(text), "run python -m tests.support.diagrams"
    assert [name for _, name, _ in diagrams.BLOCK.findall(text)] == list(diagrams.diagrams())


@pytest.mark.parametrize("page", ["docs/design.md", "CONTRIBUTING.md"])
def test_the_files_that_the_design_names_exist(page: str) -> None:
    """Whole paths from the root, and short ones from the package."""
    text = (ROOT / page).read_text()
    whole = set(re.findall(r"`((?:src|cli|tests|bench|docs|examples)/[\w./-]+)`", text))
    short = set(re.findall(r"`((?:core|wire|runtime|config|sidecar)/[\w/]+\.py)`", text))
    package = ROOT / "src/fanout"

    assert whole
    assert [each for each in sorted(whole) if not (ROOT / each).exists()] == []
    assert [
        each
        for each in sorted(short)
        if not (package / each).exists() and not (package / "runtime" / each).exists()
    ] == []


@pytest.mark.parametrize(
    "heading",
    ["## One message, from PUBLISH to another client", "## A join", "## An option"],
)
def test_the_paths_through_the_code_are_files_in_order(heading: str) -> None:
    """Each step of a path names a file that is there."""
    section = (DOCS / "design.md").read_text().partition(heading)[2].partition("\n## ")[0]
    steps = re.findall(r"^(\d+)\. `([\w/]+\.py)`", section, re.MULTILINE)

    assert len(steps) >= 5
    assert [int(number) for number, _ in steps] == list(range(1, len(steps) + 1))
    assert [file for _, file in steps if not (ROOT / file).exists()] == []


def test_the_tests_that_promises_name_exist() -> None:
    """Each promise of the concepts is shown by a test that is there."""
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (DOCS / "concepts.md").read_text())

    assert len(named) > 5
    for file, function in named:
        assert f"def {function}" in (ROOT / file).read_text()


@pytest.mark.parametrize(
    ("title", "kind", "decode"),
    [
        ("node", NodeRecord, records.decode_node),
        ("sidecar", SidecarRecord, records.decode_sidecar),
        ("drain", DrainRequest, records.decode_drain),
        ("identity", Identity, records.decode_identity),
    ],
)
def test_the_records_of_the_discovery_page_are_whole(
    title: str, kind: type, decode: Callable[[bytes], Any]
) -> None:
    """Each example can be read, has every field, and every field is explained."""
    text = dict(blocks(DOCS / "discovery.md", "json"))[title]
    fields = set(attrs.fields_dict(kind)) - {"extra"}
    said = (DOCS / "discovery.md").read_text()

    assert json.loads(text).keys() == fields
    assert json.loads(records.encode_record(decode(text.encode()))) == json.loads(text)
    assert all(f"`{field}`" in said for field in fields)


def events(source: str) -> Iterator[str]:
    """Yield the names of the warnings and errors that a source may log."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            logs = node.func.attr in ("warning", "error", "complain") and node.args
            where = ast.unparse(node.func.value)
            if logs and (where.endswith(("log", "bound")) or node.func.attr == "complain"):
                yield from named(node.args[0], source)


def named(event: ast.expr, source: str) -> Iterator[str]:
    """Yield the constants that an event's name is taken from."""
    if isinstance(event, ast.Constant):
        yield str(event.value)
    elif isinstance(event, ast.Name):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == event.id:
                yield from (
                    each.value
                    for each in ast.walk(node.value)
                    if isinstance(each, ast.Constant) and isinstance(each.value, str) and each.value
                )


def test_the_runbook_knows_every_alarm() -> None:
    """Each warning and error of the core has a row, and each row an event that exists."""
    core = [path for path in SOURCES if "adjunct" not in path.parts]
    logged = {event for path in core for event in events(path.read_text())}
    listed = set(re.findall(r"^\| `([a-z]+(?:_[a-z]+)+)` \|", RUNBOOK.read_text(), re.MULTILINE))
    everything = "".join(path.read_text() for path in SOURCES)

    assert len(logged) > 20
    assert logged - listed == set()
    assert {each for each in listed if f'"{each}"' not in everything} == set()
