"""Placement: which nodes carry a channel, for publishers and subscribers alike.

Rendezvous hashing: every (channel, node) pair has a score, and the nodes are ranked by it. All
sidecars that see the same nodes agree without communication. When a node joins or leaves, only
the channels that it gains or loses move.
Source: Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998.
"""

from collections.abc import Collection
from hashlib import blake2b

import attrs

from fanout.values.names import NodeId


@attrs.frozen(slots=True)
class Placement:
    """The nodes of one channel."""

    ranked: tuple[NodeId, ...]
    """The nodes that may carry a message, best first."""

    @property
    def publish(self) -> NodeId | None:
        """The node to publish on; None if there is no node."""
        return self.ranked[0] if self.ranked else None

    @property
    def subscribe(self) -> frozenset[NodeId]:
        """The nodes to subscribe on: a message may come from any of them."""
        return frozenset(self.ranked)


def score(channel: bytes, node: NodeId) -> bytes:
    """Return the score of `node` for `channel`: the largest wins. Equal in every build."""
    return blake2b(node.encode() + b"\0" + channel, digest_size=8).digest()


def place(channel: bytes, nodes: Collection[NodeId], spread: int | None = None) -> Placement:
    """Rank `nodes` for `channel`; return the first `spread` of them, or all.

    Raises:
        ValueError: `spread` is less than 1.

    """
    if spread is not None and spread < 1:
        raise ValueError(f"invalid spread {spread}: expected at least 1")
    # The node id breaks ties, so that sidecars agree even on equal scores.
    ranked = sorted(nodes, key=lambda node: (score(channel, node), node), reverse=True)
    return Placement(tuple(ranked[:spread]))
