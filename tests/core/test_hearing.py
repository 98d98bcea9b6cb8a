"""Where to publish while some sidecars do not hear some nodes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.core.hearing import Hearing
from fanout.values.names import NodeId, SidecarId

A, B, C = map(NodeId, "abc")
LIVES = {A: 1, B: 1, C: 1}
ONE, TWO = SidecarId("one"), SidecarId("two")


@pytest.mark.parametrize(
    ("deaf", "unheard", "best"),
    [
        ({}, (), "abc"),
        ({"s": {A: 1}}, (), "bc"),
        ({"s": {A: 1}, "t": {B: 1}}, (), "c"),
        ({"s": {A: 1}, "t": {A: 1, B: 1}, "u": {C: 1}}, (), "bc"),
        ({}, (A,), "bc"),
        ({"s": {B: 1, C: 1}}, (A,), "abc"),
        ({"broken": LIVES}, (), "abc"),
        ({"broken": LIVES, "s": {A: 1}}, (), "bc"),
        ({"s": {A: 2}}, (), "abc"),
        ({"s": {NodeId("unknown"): 1}}, (), "abc"),
    ],
)
def test_the_nodes_that_the_fewest_cannot_hear(
    deaf: dict[str, dict[NodeId, int]], unheard: tuple[NodeId, ...], best: str
) -> None:
    """One sidecar that hears nothing changes nothing, nor one that reports another incarnation."""
    hearing = Hearing()
    for sidecar, nodes in deaf.items():
        hearing.tell(SidecarId(sidecar), nodes)
    assert hearing.best(LIVES, unheard) == set(best)
    for sidecar in list(deaf)[::2]:
        hearing.tell(SidecarId(sidecar), {})
    for sidecar in list(deaf)[1::2]:
        hearing.forget(SidecarId(sidecar))
    assert hearing.best(LIVES, ()) == set(LIVES)


def test_a_word_said_again_is_no_news() -> None:
    """It comes by every node."""
    hearing = Hearing()
    assert hearing.tell(ONE, {A: 1})
    assert not hearing.tell(ONE, {A: 1})
    assert hearing.tell(ONE, {})
    assert not hearing.tell(ONE, {})


def test_what_others_hear_is_known_of_until_the_last_of_them_does_not() -> None:
    """Also of a node that only they know, then in its latest incarnation."""
    hearing = Hearing()
    hearing.tell_covered(ONE, {A: 1, B: 1})
    hearing.tell_covered(TWO, {A: 1, B: 2})
    assert hearing.is_heard(A, 1)
    assert not hearing.is_heard(A, 2)
    assert hearing.unknown({A}) == {B: 2}
    assert hearing.unknown({A, B}) == {}

    hearing.forget(TWO)
    assert hearing.is_heard(A, 1)
    assert hearing.unknown({A}) == {B: 1}
    hearing.tell_covered(ONE, {})
    assert not hearing.is_heard(A, 1)
    assert hearing.unknown(()) == {}


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


def test_hearers_cover_a_node_and_are_not_deaf_to_it() -> None:
    """A sidecar that still lists a node which it cannot hear is no hearer."""
    hearing = Hearing()
    for number in range(3):
        hearing.tell_covered(SidecarId(f"s-{number}"), {A: 7})
    hearing.tell_covered(SidecarId("old"), {A: 6})
    hearing.tell(SidecarId("s-2"), {A: 7})

    assert hearing.hearers(A, 7) == 2
    assert hearing.hearers(A, 6) == 1
    hearing.forget(SidecarId("s-0"))
    assert hearing.hearers(A, 7) == 1
