"""What several tests of adjuncts start."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.adjunct.knot import Knot


@pytest.fixture
def knot(tmp_path: Path) -> Iterator[Knot]:
    """A name server with one zone."""
    with Knot(tmp_path) as server:
        yield server
