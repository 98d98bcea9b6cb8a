"""What holds for every test."""

import os
from collections.abc import Generator, Iterator

import pytest
import structlog
from hypothesis import settings

pytest.register_assert_rewrite("tests.support")

# Under CI Hypothesis would load a profile of its own that tries the same examples every time.
settings.register_profile("ci", derandomize=False, print_blob=True, deadline=None)
settings.load_profile("ci")


LONG = ("/sim/", "/runtime/sidecar/test_leaks", "/live/", "/runtime/")
"""What takes long, the longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long: simulated fleets keep the cores busy while live tests wait."""

    def rank(item: pytest.Item) -> int:
        return next((n for n, part in enumerate(LONG) if part in item.nodeid), len(LONG))

    items.sort(key=rank)


@pytest.fixture(autouse=True)
def logs_as_by_default() -> Iterator[None]:
    """Undo what a test sets up for its process: the next one may look at what is logged."""
    yield
    structlog.reset_defaults()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skip is a failure: everything that tests need is installed there."""
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a module that skips itself as a whole."""
    report = yield
    _refuse_skip(report)
    return report


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    # An expected failure counts as skipped too, but it did run.
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
