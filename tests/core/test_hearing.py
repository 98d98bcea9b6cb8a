"""Where to publish when not everybody hears everything."""

from hypothesis import given
from hypothesis import strategies as st

from fanout.core.hearing import Hearing
from fanout.values import NodeId, SidecarId

A, B, C = map(NodeId, "abc")
LIVES = {A: 1, B: 1, C: 1}
ONE, TWO = SidecarId("one"), SidecarId("two")


def test_the_best_nodes_are_those_that_the_fewest_cannot_hear() -> None:
    """What this sidecar itself cannot hear counts like what another one cannot."""
    hearing = Hearing()
    assert hearing.best(LIVES, ()) == {A, B, C}

    hearing.tell(ONE, {A: 1})
    assert hearing.best(LIVES, ()) == {B, C}
    assert hearing.best(LIVES, {B}) == {C}


def test_who_hears_nothing_takes_no_node_away() -> None:
    """It adds the same to each."""
    hearing = Hearing()
    hearing.tell(ONE, LIVES)

    assert hearing.best(LIVES, ()) == {A, B, C}


def test_another_life_of_a_node_was_not_meant() -> None:
    """Who could not hear the last one may hear this one."""
    hearing = Hearing()
    hearing.tell(ONE, {A: 1})

    assert hearing.best({A: 2, B: 1}, ()) == {A, B}


def test_a_word_said_again_is_no_news() -> None:
    """It comes by every node."""
    hearing = Hearing()
    assert hearing.tell(ONE, {A: 1})
    assert not hearing.tell(ONE, {A: 1})
    assert hearing.tell(ONE, {})
    assert not hearing.tell(ONE, {})


WORDS = st.tuples(
    st.sampled_from((ONE, TWO)),
    st.none() | st.dictionaries(st.sampled_from((A, B, C)), st.integers(1, 2)),
)


@given(st.lists(WORDS))
def test_the_last_word_of_each_counts(
    words: list[tuple[SidecarId, dict[NodeId, int] | None]],
) -> None:
    """However often each speaks, or leaves."""
    hearing = Hearing()
    last: dict[SidecarId, dict[NodeId, int]] = {}
    for sidecar, deaf in words:
        if deaf is None:
            hearing.forget(sidecar)
        else:
            hearing.tell(sidecar, deaf)
        last[sidecar] = deaf or {}

    for node in LIVES:
        for life in (1, 2):
            said = sum(deaf.get(node) == life for deaf in last.values())
            assert hearing.count(node, life) == said
