"""The publisher's choice of a node is that of the placement, remembered within bounds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.core.choices import Choices
from fanout.core.placement import place
from fanout.values.names import NodeId

names = st.sets(st.sampled_from([NodeId("a"), NodeId("b"), NodeId("c"), NodeId("d")]))


@given(st.lists(st.tuples(names, st.sampled_from([b"x", b"y", b"z"]), names), max_size=8))
def test_the_choice_is_that_of_the_placement(
    steps: list[tuple[set[NodeId], bytes, set[NodeId]]],
) -> None:
    """Whatever was remembered of other nodes before."""
    choices: Choices[str] = Choices()
    for nodes, channel, tried in steps:
        choices.use({node: f"link to {node}" for node in nodes})
        for _ in range(2):
            best = place(channel, nodes).publish
            assert choices.best(channel) == (f"link to {best}" if best else None)
        following = place(channel, nodes - tried).publish
        assert choices.next(channel, tried) == (f"link to {following}" if following else None)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forgetting costs only a new ranking."""
    monkeypatch.setattr("fanout.core.choices.CHOICES_MAX", 10)
    choices: Choices[str] = Choices()
    choices.use({NodeId("a"): "a"})
    for number in range(100):
        assert choices.best(b"%d" % number) == "a"

    assert len(choices._best) <= 10
