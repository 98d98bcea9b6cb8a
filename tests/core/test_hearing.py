"""Which nodes are published to while some sidecars cannot hear some nodes."""

import pytest

from fanout.core.hearing import Hearing
from fanout.values import NodeId, SidecarId

A, B, C = (NodeId(name) for name in "abc")
LIVES = {A: 1, B: 1, C: 1}


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
    """One sidecar that hears nothing changes nothing, nor does one that lies about another life."""
    hearing = Hearing()
    for sidecar, nodes in deaf.items():
        hearing.tell(SidecarId(sidecar), nodes)
    assert hearing.best(LIVES, unheard) == set(best)
    for sidecar in list(deaf)[::2]:
        hearing.tell(SidecarId(sidecar), {})
    for sidecar in list(deaf)[1::2]:
        hearing.forget(SidecarId(sidecar))
    assert hearing.best(LIVES, ()) == set(LIVES)
