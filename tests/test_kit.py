"""The files that contributors start from: templates, workflow, hooks, changelog, contributing."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import fanout

ROOT = Path(__file__).parents[1]
GITHUB = ROOT / ".github"
FORMS = sorted((GITHUB / "ISSUE_TEMPLATE").glob("*.yml"))
INPUTS = {"checkboxes", "dropdown", "input", "textarea"}
CHANGES = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security", "Upgrading"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def load(file: Path) -> Any:
    """Return the content of a YAML file."""
    return yaml.safe_load(file.read_text())


@pytest.mark.parametrize("file", FORMS, ids=lambda file: file.stem)
def test_an_issue_form_is_one(file: Path) -> None:
    """With the keys that GitHub asks for: a form that lacks one is not offered."""
    form = load(file)
    fields = [each for each in form["body"] if each["type"] != "markdown"]

    assert form["name"]
    assert form["description"]
    assert {each["type"] for each in fields} <= INPUTS
    assert all(each["attributes"]["label"] for each in fields)
    assert len({each["id"] for each in fields}) == len(fields) > 0
    assert any(each.get("validations", {}).get("required") for each in fields)


def test_there_are_forms_for_bugs_and_features() -> None:
    """And a template for pull requests."""
    assert [file.stem for file in FORMS] == ["bug", "feature"]
    assert (GITHUB / "PULL_REQUEST_TEMPLATE.md").read_text().count("- [ ] ") > 3


def test_the_workflow_runs_ci_with_the_least_rights() -> None:
    """On every Python that the metadata names, with actions that cannot change."""
    workflow = load(GITHUB / "workflows/ci.yml")
    (job,) = workflow["jobs"].values()
    used = [step["uses"] for step in job["steps"] if "uses" in step]
    classified = [each.rpartition(" :: ") for each in PROJECT["project"]["classifiers"]]
    versions = [
        version
        for kind, _, version in classified
        if kind == "Programming Language :: Python" and "." in version
    ]

    assert workflow["permissions"] == {"contents": "read"}
    assert job["strategy"]["matrix"]["python"] == versions
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    assert all(re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", each) for each in used)


def test_hooks_are_tools_of_the_environment() -> None:
    """Nothing is fetched for them, and the extra `test` installs each."""
    (repository,) = load(ROOT / ".pre-commit-config.yaml")["repos"]
    hooks = repository["hooks"]
    extra = {
        re.split(r"[\[<>=]", each)[0]
        for each in PROJECT["project"]["optional-dependencies"]["test"]
    }

    assert repository["repo"] == "local"
    assert [hook["id"] for hook in hooks] == ["ruff", "ruff-format", "mypy", "codespell"]
    assert {hook["language"] for hook in hooks} == {"system"}
    assert {hook["entry"].split()[0] for hook in hooks} | {"pre-commit"} <= extra
    assert "pre-commit run --all-files" in (ROOT / ".ci/run").read_text()


def test_the_changelog_has_the_form_of_keep_a_changelog() -> None:
    """Unreleased on top, then each version with its day, newest first, this one among them."""
    text = (ROOT / "CHANGELOG.md").read_text()
    titles = re.findall(r"^## (.*)$", text, re.MULTILINE)
    versions = [
        re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - \d{4}-\d{2}-\d{2}", each) for each in titles[1:]
    ]
    numbers = [tuple(map(int, each[1].split("."))) for each in versions if each]

    assert titles[0] == "[Unreleased]"
    assert None not in versions
    assert numbers == sorted(numbers, reverse=True)
    assert f"\n## [{fanout.__version__}] - " in text
    assert set(re.findall(r"^### (.*)$", text, re.MULTILINE)) <= CHANGES


def test_the_contributing_page_links_to_what_exists() -> None:
    """At the root and in the docs, which include it: each defines where its links lead."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    used = set(re.findall(r"\]\[(\w+)\]", text))

    for page in (ROOT / "CONTRIBUTING.md", ROOT / "docs/contributing.md"):
        defined = dict(re.findall(r"^\[(\w+)\]: (\S+)$", page.read_text(), re.MULTILINE))
        assert defined.keys() == used
        assert all((page.parent / target).exists() for target in defined.values())


def test_the_contributing_page_names_what_exists() -> None:
    """Files, and extras that it has installed."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    files = re.findall(r"\b(?:tests|docs)/[\w/]+\.(?:py|md|json)\b", text)
    extras = re.findall(r"'\.\[(\w+)\]'", text)

    assert len(files) > 3
    assert [file for file in files if not (ROOT / file).exists()] == []
    assert set(extras) <= PROJECT["project"]["optional-dependencies"].keys()
