"""The agent under any order of events: what it may never say, and that it gets to its end."""

from typing import Any

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fanout.core.agent import MOVES, RENEWABLE, STATES, Agent, Phase, Redis
from fanout.core.agent_effects import (
    Activated,
    CloseGate,
    CountSidecars,
    Effect,
    Left,
    OpenGate,
    PublishEnd,
    SetIdentity,
    WriteRecord,
)
from fanout.core.rival import owner_name
from fanout.values.names import Endpoint, NodeId, SidecarId
from fanout.values.records import FenceMode, NodeRecord, NodeState, SidecarRecord
from tests.support.diagrams import state_moves

NODE = NodeId("n")
HERE = Endpoint("h", 1)
HEARTBEAT, LEASE, JOIN, DRAIN = 2.0, 10.0, 30.0, 60.0
START_MS = 100
OWNER = owner_name(START_MS, 1)
OTHER = NodeRecord(
    cluster="c",
    node=NodeId("other"),
    incarnation=1,
    version=1,
    owner="someone",
    state=NodeState.ACTIVE,
    endpoint=Endpoint("far", 1),
    run_id="x",
    lease_seconds=LEASE,
)

STATE_MOVES = {
    NodeState.JOINING: {NodeState.ACTIVE, NodeState.DRAINING},
    NodeState.ACTIVE: {NodeState.DRAINING},
    NodeState.DRAINING: {NodeState.GONE},
    NodeState.GONE: set[NodeState](),
}
"""Legal moves of a node within one incarnation, as discovery sees them."""

GOING = (NodeState.DRAINING, NodeState.GONE)

told = st.sampled_from(["nothing", "old", "covered", "stopped", "both"])


class AgentMachine(RuleBasedStateMachine):
    """Feeds one agent and keeps its own books of what it said."""

    @initialize()
    def begin(self) -> None:
        """Start an agent at time zero."""
        self.now = 0.0
        self.agent = Agent(
            cluster="c",
            node=NODE,
            owner=OWNER,
            started_ms=START_MS,
            heartbeat_interval_seconds=HEARTBEAT,
            poll_interval_seconds=HEARTBEAT,
            lease_seconds=LEASE,
            join_timeout_seconds=JOIN,
            drain_timeout_seconds=DRAIN,
        )
        self.up = False
        self.run_id = ""
        self.outdone_by = 0
        self.sidecars: dict[SidecarId, SidecarRecord] = {}
        self.others = False  # whether another node is active
        self.told = False  # since the last joining record
        self.gate: bool | None = None  # as the node's Redis has it; None: of an earlier process
        self.counting = 0  # counts asked for and not answered
        self.agreed = False
        self.record: NodeRecord | None = None
        self.identity: Any = None
        self.ended: int | None = None  # the incarnation whose last message was published
        self.left = False
        self.joined_at = self.drained_at = 0.0

    def take(self, effects: tuple[Effect, ...]) -> None:
        """Check every effect as it comes."""
        for effect in effects:
            assert not self.left, "nothing is said after the goodbye"
            match effect:
                case OpenGate() | CloseGate():
                    self.gate = isinstance(effect, OpenGate)
                case SetIdentity(identity):
                    self.identity = identity
                case CountSidecars(incarnation, others):
                    assert self.record is not None and incarnation == self.record.incarnation
                    assert bool(others) is (self.others and self.record.state is NodeState.JOINING)
                    self.counting += 1
                    assert self.counting == 1, "one count at a time"
                case WriteRecord(record):
                    self.take_record(record)
                case Activated(record, missing, late):
                    assert record == self.record and record.state is NodeState.ACTIVE
                    assert set(missing) == self.without("covered")
                    assert late is (self.now >= self.joined_at + JOIN)
                    assert late or not missing
                    assert late or self.agreed or not self.others, "as many as elsewhere"
                    assert self.told, "it looked before it let anybody publish"
                    assert self.gate, "who is told to publish may"
                case PublishEnd(incarnation):
                    assert self.record is not None and self.up
                    assert incarnation == self.record.incarnation
                    assert self.record.state is NodeState.DRAINING
                    assert not self.gate, "nothing follows the last message"
                    self.agreed = False
                    late = self.now >= self.drained_at + DRAIN / 2
                    first = incarnation != self.ended
                    assert not first or late or not self.without("stopped")
                    self.ended = incarnation
                case Left(record):
                    assert record == self.record and record.state is NodeState.GONE
                    self.left = True
                    assert self.agreed or not self.up or self.now >= self.drained_at + DRAIN

    def take_record(self, record: NodeRecord) -> None:
        """Check one record against the one before."""
        before = self.record
        self.record = record
        same_life = before is not None and before.incarnation == record.incarnation
        if before is not None and same_life:
            assert record.version == before.version + 1
            assert record.run_id == before.run_id
            moved = record.state is not before.state
            assert not moved or record.state in STATE_MOVES[before.state]
            if moved and record.state is NodeState.DRAINING:
                self.drained_at, self.agreed, self.counting = self.now, False, 0
            assert moved or self.up, "a heartbeat vouches for a Redis that delivers"
        else:
            assert before is None or record.incarnation > before.incarnation
            assert record.incarnation > self.outdone_by
            assert record.state is NodeState.JOINING and self.up
            assert self.identity is not None
            assert (self.identity.incarnation, self.identity.run_id) == (
                record.incarnation,
                self.run_id,
            )
            assert self.gate is False, "nobody may publish yet"
            self.told, self.agreed, self.joined_at = False, False, self.now
            self.counting = 0

    def without(self, table: str) -> set[SidecarId]:
        """Return the sidecars that do not list this incarnation of the node."""
        assert self.record is not None
        life = self.record.incarnation
        return {
            name for name, each in self.sidecars.items() if getattr(each, table).get(NODE) != life
        }

    @rule(run_id=st.sampled_from(["r1", "r2", "r3"]))
    def redis_up(self, run_id: str) -> None:
        """Redis runs; another run id is another process, with its door as its file has it."""
        if self.up and run_id != self.run_id:
            self.redis_down()
        if run_id != self.run_id:
            self.gate = False
        self.up, self.run_id = True, run_id
        self.take(self.agent.redis_up(Redis(run_id, HERE, FenceMode.ACL), self.now))
        if self.record is not None and self.record.state not in GOING:
            assert self.gate is (self.record.state is NodeState.ACTIVE)

    @rule()
    def oversleep(self) -> None:
        """The agent was stopped for a while."""
        self.take(self.agent.overslept(self.now))
        if self.record is not None and self.record.state is NodeState.JOINING and self.up:
            assert self.gate is False

    @rule()
    def redis_down(self) -> None:
        """Redis is lost."""
        self.up = False
        self.agent.redis_down()

    @rule(says=st.dictionaries(st.sampled_from(["s1", "s2", "s3"]), told), others=st.booleans())
    def look(self, says: dict[str, str], others: bool) -> None:  # noqa: FBT001
        """Discovery is read."""
        life = self.record.incarnation if self.record is not None else START_MS
        self.sidecars = {}
        for name, what in says.items():
            seen = {NODE: life - 1 if what == "old" else life}
            self.sidecars[SidecarId(name)] = SidecarRecord(
                cluster="c",
                sidecar=SidecarId(name),
                incarnation=1,
                version=1,
                lease_seconds=LEASE,
                covered=seen if what in ("covered", "both", "old") else {},
                stopped=seen if what in ("stopped", "both", "old") else {},
            )
        self.others = others
        nodes = {OTHER.node: OTHER} if others else {}
        self.take(self.agent.looked(self.sidecars, nodes, self.now))

    @precondition(lambda self: self.record is not None)
    @rule(behind=st.sampled_from([0, 0, 0, 1]))
    def tell(self, behind: int) -> None:
        """Have discovery store the joining record of this incarnation or an earlier one."""
        assert self.record is not None
        if not behind:
            self.told = True
        self.take(self.agent.told(self.record.incarnation - behind, self.now))

    @precondition(lambda self: self.counting)
    @rule(here=st.sampled_from([None, 0, 1, 2]), elsewhere=st.integers(0, 2))
    def count(self, here: int | None, elsewhere: int) -> None:
        """A count that was asked for is there."""
        assert self.record is not None
        self.counting = 0
        if here is not None:
            joining = self.record.state is NodeState.JOINING
            self.agreed = here >= elsewhere if joining else here == 0
        self.take(self.agent.counted(self.record.incarnation, here, elsewhere, self.now))

    @rule(ahead=st.integers(-5, 50))
    def outdone(self, ahead: int) -> None:
        """Find an earlier incarnation of this node id in discovery."""
        seen = START_MS + ahead
        found = attrs.evolve(OTHER, node=NODE, owner=OWNER, incarnation=max(seen, 0))
        self.take(self.agent.found(0, found, self.now))
        self.outdone_by = max(self.outdone_by, seen)

    @precondition(lambda self: self.record is not None)
    @rule()
    def leave(self) -> None:
        """Ask it to leave when that is safe."""
        assert self.record is not None
        was_last = self.agent.is_last
        before = self.record.state
        self.take(self.agent.leave(self.now))
        assert self.agent.state is before if was_last else self.agent.state in GOING

    @precondition(lambda self: self.record is not None)
    @rule()
    def drain(self) -> None:
        """Ask it to leave."""
        assert self.record is not None
        self.take(self.agent.drain(self.now))
        assert self.record.state in (NodeState.DRAINING, NodeState.GONE)

    @rule(seconds=st.sampled_from([0.0, 0.5, HEARTBEAT, LEASE, JOIN / 2, JOIN]))
    def wait(self, seconds: float) -> None:
        """Time passes; whatever falls due on the way is done when it is due."""
        end = self.now + seconds
        while (due := self.agent.next_deadline()) <= end:
            self.now = max(self.now, due)
            self.take(self.agent.advance(self.now))
            assert self.agent.next_deadline() > self.now, "what is due is done"
        self.now = end

    @invariant()
    def state_is_what_was_said(self) -> None:
        """The machine never thinks one thing and says another."""
        assert self.agent.state is (self.record.state if self.record is not None else None)

    def teardown(self) -> None:
        """Whatever happened, a drained agent gets to its end, and a joining one to active."""
        if not hasattr(self, "agent") or self.record is None:
            return
        self.redis_up(self.run_id or "r1")
        self.look({"s1": "nothing"}, others=False)
        self.tell(0)
        if self.agent.state is NodeState.JOINING:
            self.wait(JOIN)
            assert self.record.state is not NodeState.JOINING
        self.drain()
        self.wait(DRAIN)
        assert self.left


TestAgent = AgentMachine.TestCase


def test_the_phases_allow_exactly_the_moves_of_the_states() -> None:
    """The table of phases is finer than that of states, and says nothing else."""
    assert state_moves() == STATE_MOVES
    assert MOVES.keys() == set(Phase) == STATES.keys() | {Phase.STARTING}
    assert {STATES[each] for each in RENEWABLE}.isdisjoint(GOING)
