"""What holds for every test."""

import os
from collections.abc import Generator

import pytest
from hypothesis import settings

settings.register_profile("fanout", deadline=None, print_blob=True)
settings.load_profile("fanout")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skip is a failure: everything that tests need is installed there."""
    report = yield
    if report.skipped and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
    return report
