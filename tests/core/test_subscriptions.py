"""The reconciler: after all answers, what is subscribed is what is wished for."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from fanout.core.subscriptions import (
    BATCH_MAX,
    UNANSWERED_MAX,
    LinkSubscriptions,
    Subscriptions,
    Ticket,
)
from fanout.values.names import Kind, NodeId

names = st.sampled_from([b"a", b"b", b"c", b"d"])
kinds = st.sampled_from(list(Kind))
nodes = st.sampled_from([NodeId("n1"), NodeId("n2"), NodeId("n3")])


class SubscriptionsMachine(RuleBasedStateMachine):
    """Model: wishes are counted; each node is a queue of commands and the set it has executed."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.subscriptions = Subscriptions(linger_seconds=1.0)
        self.wishes: dict[tuple[Kind, bytes], int] = {}
        self.links: dict[NodeId, LinkSubscriptions] = {}
        self.old: list[LinkSubscriptions] = []
        self.sent: dict[LinkSubscriptions, list[tuple[bool, Kind, bytes]]] = {}
        self.held: dict[LinkSubscriptions, set[tuple[Kind, bytes]]] = {}
        self.acknowledged: dict[LinkSubscriptions, set[tuple[Kind, bytes]]] = {}
        self.tickets: list[Ticket] = []
        self.required: frozenset[NodeId] = frozenset()

    def pump(self) -> None:
        """Send the batches and take the confirmed tickets, as the shell does."""
        for batch in self.subscriptions.batches():
            assert 0 < len(batch.names) <= BATCH_MAX
            for name in batch.names:
                # A name that a client wants is never unsubscribed.
                assert batch.subscribe or not self.wishes[batch.kind, name]
                self.sent[batch.link].append((batch.subscribe, batch.kind, name))
        for ticket in self.subscriptions.confirmed():
            self.tickets.remove(ticket)
            for key in ticket.names:
                for node in self.required:
                    assert key in self.acknowledged[self.links[node]]
                for link in self.links.values():
                    assert not link.covered or key in self.acknowledged[link]

    @rule(kind=kinds, wanted=st.sets(names, min_size=1))
    def acquire(self, kind: Kind, wanted: set[bytes]) -> None:
        """Some client subscribes."""
        self.tickets.append(self.subscriptions.acquire(kind, sorted(wanted), lambda: None))
        for name in wanted:
            self.wishes[kind, name] = self.wishes.get((kind, name), 0) + 1
        self.pump()

    @rule(kind=kinds, name=names)
    def release(self, kind: Kind, name: bytes) -> None:
        """Some client unsubscribes from what was confirmed to it."""
        pending = sum((kind, name) in ticket.names for ticket in self.tickets)
        if self.wishes.get((kind, name), 0) > pending:
            self.subscriptions.release(kind, (name,), self.now)
            self.wishes[kind, name] -= 1
            self.pump()

    @rule(data=st.data())
    @precondition(lambda self: self.tickets)
    def leave(self, data: st.DataObject) -> None:
        """A client leaves before its subscription is confirmed."""
        ticket = data.draw(st.sampled_from(self.tickets))
        self.tickets.remove(ticket)
        self.subscriptions.abandon(ticket)
        for kind, name in ticket.names:
            self.subscriptions.release(kind, (name,), self.now)
            self.wishes[kind, name] -= 1
        self.pump()

    @rule(node=nodes)
    def connect(self, node: NodeId) -> None:
        """A node is connected, perhaps anew."""
        if node in self.links:
            self.old.append(self.links[node])
        link = self.links[node] = self.subscriptions.open(node)
        self.sent[link], self.held[link], self.acknowledged[link] = [], set(), set()
        self.pump()

    @rule(node=nodes)
    def disconnect(self, node: NodeId) -> None:
        """A connection is lost."""
        if node in self.links:
            link = self.links.pop(node)
            self.old.append(link)
            self.required -= {node}
            self.subscriptions.require(self.required)
            self.subscriptions.close(link)
            self.pump()

    @rule(data=st.data())
    def require(self, data: st.DataObject) -> None:
        """Other nodes are active now."""
        self.required = frozenset(
            data.draw(st.sets(st.sampled_from(sorted(self.links)))) if self.links else ()
        )
        self.subscriptions.require(self.required)
        self.pump()

    @rule(data=st.data(), count=st.integers(1, 10))
    @precondition(lambda self: any(self.sent[link] for link in self.links.values()))
    def answer(self, data: st.DataObject, count: int) -> None:
        """A node executes commands in order and confirms them."""
        link = data.draw(st.sampled_from([link for link in self.links.values() if self.sent[link]]))
        for subscribe, kind, name in self.sent[link][:count]:
            (self.held[link].add if subscribe else self.held[link].discard)((kind, name))
            (self.acknowledged[link].add if subscribe else self.acknowledged[link].discard)(
                (kind, name)
            )
            self.subscriptions.acknowledge(link, subscribed=subscribe, kind=kind, name=name)
        del self.sent[link][:count]
        self.pump()

    @rule(subscribed=st.booleans(), kind=kinds, name=names)
    @precondition(lambda self: self.old)
    def late_answer(self, *, subscribed: bool, kind: Kind, name: bytes) -> None:
        """An answer of an old connection arrives late; it changes nothing."""
        before = self.subscriptions.batches()
        self.subscriptions.acknowledge(self.old[-1], subscribed=subscribed, kind=kind, name=name)
        assert before == []
        assert self.subscriptions.batches() == []

    @rule(seconds=st.sampled_from([0.3, 1.0]))
    def pass_time(self, seconds: float) -> None:
        """Time passes; deadlines are met."""
        self.now += seconds
        while self.subscriptions.next_deadline() <= self.now:
            self.subscriptions.expire(self.now)
        self.pump()

    @rule()
    def settle(self) -> None:
        """When everything is answered and every linger is over, the nodes hold the wishes."""
        self.now += 2.0
        self.subscriptions.expire(self.now)
        self.pump()
        while any(self.sent[link] for link in self.links.values()):
            for link in list(self.links.values()):
                for subscribe, kind, name in self.sent[link][:]:
                    self.sent[link].pop(0)
                    (self.held[link].add if subscribe else self.held[link].discard)((kind, name))
                    (self.acknowledged[link].add if subscribe else self.acknowledged[link].discard)(
                        (kind, name)
                    )
                    self.subscriptions.acknowledge(link, subscribed=subscribe, kind=kind, name=name)
            self.pump()
        wished = {key for key, count in self.wishes.items() if count}
        for link in self.links.values():
            assert self.held[link] == wished
            assert link.covered
        assert not self.tickets


TestSubscriptions = SubscriptionsMachine.TestCase


def test_the_window_is_bounded() -> None:
    """However many names are wished for, only so many are unanswered on a link."""
    subscriptions = Subscriptions()
    link = subscriptions.open(NodeId("n"))
    wanted = [b"%d" % number for number in range(3 * UNANSWERED_MAX)]
    subscriptions.acquire(Kind.CHANNEL, wanted, lambda: None)
    sent = [name for batch in subscriptions.batches() for name in batch.names]

    assert len(sent) == UNANSWERED_MAX
    assert subscriptions.batches() == []

    subscriptions.acknowledge(link, subscribed=True, kind=Kind.CHANNEL, name=sent[0])

    assert [len(batch.names) for batch in subscriptions.batches()] == [1]


def test_a_joining_node_holds_no_subscriber_back() -> None:
    """A link that is not covered is not waited for, unless its node is active."""
    subscriptions = Subscriptions()
    subscriptions.acquire(Kind.CHANNEL, [b"old"], lambda: None)
    subscriptions.confirmed()
    subscriptions.open(NodeId("joining"))
    ticket = subscriptions.acquire(Kind.CHANNEL, [b"new"], lambda: None)

    assert subscriptions.confirmed() == [ticket]

    subscriptions.require(frozenset([NodeId("joining")]))
    subscriptions.acquire(Kind.CHANNEL, [b"newer"], lambda: None)

    assert subscriptions.confirmed() == []


def test_what_lingers_on_a_node_is_counted_there() -> None:
    """A pattern that is no longer wanted is delivered and counted until it is unsubscribed."""
    subscriptions = Subscriptions(linger_seconds=1.0)
    link = subscriptions.open(NodeId("n"))
    for kind, name in ((Kind.PATTERN, b"a*"), (Kind.PATTERN, b"*"), (Kind.CHANNEL, b"ab")):
        subscriptions.acquire(kind, [name], lambda: None)
        subscriptions.batches()
        assert link.counted(b"ab") == (0 if name == b"a*" else 1 + (name == b"ab"))
        subscriptions.acknowledge(link, subscribed=True, kind=kind, name=name)
    assert (link.counted(b"ab"), link.counted(b"b")) == (3, 1)

    subscriptions.release(Kind.PATTERN, (b"a*",), 5.0)
    assert link.counted(b"ab") == 3
    subscriptions.expire(6.0)
    subscriptions.batches()
    assert link.counted(b"ab") == 2
