"""Placement: all sidecars agree, and few channels move."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.core.placement import place
from fanout.values.names import NodeId

node_sets = st.frozensets(st.text("abcdef0123", min_size=1).map(NodeId), max_size=8)


@given(st.binary(), node_sets, st.randoms())
def test_order_of_nodes_does_not_matter(
    channel: bytes, nodes: frozenset[NodeId], rng: object
) -> None:
    """Two sidecars that know the same nodes choose the same one."""
    shuffled = sorted(nodes, key=lambda _: rng.random())  # type: ignore[attr-defined]

    assert place(channel, nodes) == place(channel, shuffled)


@given(st.binary(), node_sets)
def test_all_nodes_carry_a_channel_by_default(channel: bytes, nodes: frozenset[NodeId]) -> None:
    """Without a spread every node is subscribed, and the publish node is among them."""
    placement = place(channel, nodes)

    assert placement.subscribe == nodes
    assert (placement.publish in nodes) if nodes else placement.publish is None


@given(st.binary(), node_sets, st.integers(1, 9))
def test_spread_limits_the_nodes(channel: bytes, nodes: frozenset[NodeId], spread: int) -> None:
    """With a spread of k the best k of all are used, for publishing and subscribing alike."""
    placement = place(channel, nodes, spread)

    assert placement.ranked == place(channel, nodes).ranked[:spread]
    assert placement.publish is None or placement.publish in placement.subscribe


@given(st.binary(), node_sets, st.text("xyz", min_size=1).map(NodeId))
def test_only_won_channels_move(channel: bytes, nodes: frozenset[NodeId], new: NodeId) -> None:
    """A node that joins takes channels to itself; it moves none between the others."""
    before, after = place(channel, nodes).publish, place(channel, nodes | {new}).publish

    assert after in (before, new)


def test_load_is_even() -> None:
    """Each of four nodes gets about a quarter of many channels."""
    nodes = [NodeId(f"node-{number}") for number in range(4)]
    chosen = [place(b"channel-%d" % number, nodes).publish for number in range(4000)]

    for node in nodes:
        assert 850 < chosen.count(node) < 1150


def test_choice_is_the_same_in_every_build() -> None:
    """The choice is part of the protocol between sidecars: this one must never change."""
    nodes = [NodeId(f"node-{number}") for number in range(5)]

    assert [place(b"c%d" % number, nodes).publish for number in range(8)] == EXPECTED


EXPECTED = ["node-2", "node-4", "node-2", "node-3", "node-3", "node-0", "node-1", "node-1"]


def test_spread_below_one_is_refused() -> None:
    """A channel on no node could never be delivered."""
    with pytest.raises(ValueError, match="invalid spread"):
        place(b"c", [NodeId("a")], 0)
