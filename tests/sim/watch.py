"""Checks of a simulated fleet at each publish and each written record.

The checkers of `tests.sim.history` see only what clients saw. These see what clients cannot, by
the names of the protocol's invariants: I1 cover, I2 join, I4 confirm, I13 forward, I14 bounded,
I15 deaf, I17 identity.
"""

from collections.abc import Callable, Iterable

import attrs

from fanout.testing.redis import FakeRedis
from fanout.values.names import IDENTITY_KEY, RESERVED_PREFIX
from fanout.values.records import NodeState
from fanout.wire.records import NODE, decode_identity, decode_node

NOTICE_SECONDS = 5.0
"""The longest probe interval, its timeout, and a little."""

DEAF_SECONDS = 8.0
"""T of I15: the longest wait before a reconnect, its timeout, and a second to tell the others."""

PROBE = RESERVED_PREFIX + b"probe:"
"""With a sidecar's id behind it: a channel that this sidecar alone subscribes to."""

ORDER = list(NodeState)


@attrs.define(eq=False)
class Watch:
    """The checks of one run.

    Args:
        planned: whether only planned change happens in this run.
        whole: whether every sidecar must hear every publish now; not while there are faults.
        sidecars: the sidecars that are ready and were not told to leave.
        confirmed: for a sidecar, the channels confirmed to its clients and not given up.
        began: when a message was published.
        steady: for a time, the nodes that nothing has happened to since, nor to discovery.
        found: called with what is wrong.

    """

    planned: bool
    whole: bool
    sidecars: Callable[[], Iterable[str]]
    confirmed: Callable[[str], set[bytes]]
    began: Callable[[bytes], float]
    steady: Callable[[float], Iterable[str]]
    found: Callable[[str], None]
    cuts: dict[tuple[str, str], float] = attrs.field(factory=dict)
    """Sidecars and nodes that do not reach each other, since when."""
    read: dict[tuple[str, FakeRedis], bytes] = attrs.field(factory=dict)
    states: dict[tuple[str, int], NodeState] = attrs.field(factory=dict)

    def over(self, node: str, server: FakeRedis, discovery: list[FakeRedis]) -> None:
        """Watch a node's Redis from now on."""

        def on_publish(channel: bytes, payload: bytes) -> None:
            self.published(node, server, discovery, channel, payload)

        server.on_publish = on_publish

    def published(
        self,
        node: str,
        server: FakeRedis,
        discovery: list[FakeRedis],
        channel: bytes,
        payload: bytes,
    ) -> None:
        """Look at everything at the moment of a publish."""
        if channel.startswith(RESERVED_PREFIX):
            return
        self.identity(node, server, payload)
        for each in discovery:
            self.forward(node, each)
        if self.whole:
            self.cover(node, server, channel)
        self.deaf(node, payload)

    def identity(self, node: str, server: FakeRedis, payload: bytes) -> None:
        """I17: clients' messages go only to a Redis that is the node it is taken for.

        One that becomes another while sidecars are connected is noticed by the next probe, and
        what was on its way by then still gets there.
        """
        if self.began(payload) < server.changed_at + NOTICE_SECONDS:
            return
        raw = server.peek(IDENTITY_KEY)
        identity = decode_identity(raw) if raw is not None else None
        if identity is None or (identity.node, identity.run_id) != (node, server.run_id):
            self.found(f"I17 published on {node}, which says it is {identity}")

    def cover(self, node: str, server: FakeRedis, channel: bytes) -> None:
        """I1, I2, I4: wherever a client's message is published, every sidecar hears what its clients want."""
        heard = server.subscriptions
        for sidecar in self.sidecars():
            line = next((each for each in heard if PROBE + sidecar.encode() in each), None)
            if line is None:
                self.found(f"I1 published on {node}, which {sidecar} has not covered")
            elif channel in self.confirmed(sidecar) and channel not in line:
                self.found(f"I2 {channel!r} published on {node}, not subscribed by {sidecar}")

    def deaf(self, node: str, payload: bytes) -> None:
        """I15: no publish on a node long unheard by one sidecar while another node is heard.

        Looked at when the client published: what is on its way then cannot be called back.
        """
        since = self.began(payload) - DEAF_SECONDS
        never = float("inf")
        deaf = [each for each in self.sidecars() if self.cuts.get((each, node), never) <= since]
        if deaf and (better := set(self.steady(since)) - {node}):
            self.found(f"I15 published on {node}, which {deaf} cannot hear; all hear {better}")

    def forward(self, node: str, discovery: FakeRedis) -> None:
        """I13: within one incarnation a node's state never moves back."""
        raw = discovery.peek(NODE.key("default", node).encode())
        if raw is None or raw == self.read.get((node, discovery)):
            return
        self.read[node, discovery] = raw
        record = decode_node(raw)
        life = (node, record.incarnation)
        before = self.states.get(life, NodeState.JOINING)
        if self.planned and ORDER.index(record.state) < ORDER.index(before):
            self.found(f"I13 {node} was {before} and is {record.state}")
        self.states[life] = record.state


def unbounded(redis: dict[str, FakeRedis], nodes: set[str], sidecars: int) -> list[str]:
    """I14: when all is quiet a node has two connections of each sidecar and one of its agent."""
    return [
        f"I14 {node} has {redis[node].connections} connections for {sidecars} sidecars"
        for node in sorted(nodes)
        if redis[node].running and redis[node].connections > 2 * sidecars + 1
    ]
