"""Real fleets from the installed commands: every process is ended by its id."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.live.fleet import Fleet
from tests.support.live.mariadb import mariadb_template

__all__ = ["mariadb_template"]  # here, so that it is made once for all


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A fleet without members."""
    with Fleet(tmp_path) as fleet:
        yield fleet
