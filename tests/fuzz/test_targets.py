"""What the fuzzer runs, over its seeds, over changed seeds and over Hypothesis' bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS

NAMES = sorted(TARGETS)


def changed(seeds: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    """Return seeds with a slice of theirs replaced."""

    def replace(seed: bytes, at: int, length: int, new: bytes) -> bytes:
        at %= len(seed) + 1
        return seed[:at] + new + seed[at + length :]

    places = st.integers(0, 2000)
    return st.builds(
        replace, st.sampled_from(seeds), places, st.integers(0, 9), st.binary(max_size=9)
    )


@pytest.mark.parametrize("name", NAMES)
def test_seeds(name: str) -> None:
    """They keep what is promised."""
    for seed in TARGETS[name].seeds:
        TARGETS[name].run(seed)


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_any_bytes(name: str, data: st.DataObject) -> None:
    """So does everything else."""
    target = TARGETS[name]
    target.run(data.draw(st.binary(max_size=200) | changed(target.seeds)))
