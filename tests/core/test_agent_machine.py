"""The agent under any order of events: what it may never say, and that it gets to its end."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fanout.core.agent import (
    MOVES,
    Activated,
    Agent,
    Effect,
    Left,
    PublishEnd,
    SetIdentity,
    WriteRecord,
)
from fanout.values import Endpoint, NodeId, NodeRecord, NodeState, SidecarId, SidecarRecord

NODE = NodeId("n")
HERE = Endpoint("h", 1)
HEARTBEAT, LEASE, JOIN, DRAIN = 2.0, 10.0, 30.0, 60.0
START_MS = 100

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
            owner="o",
            started_ms=START_MS,
            heartbeat_interval_seconds=HEARTBEAT,
            lease_seconds=LEASE,
            join_timeout_seconds=JOIN,
            drain_timeout_seconds=DRAIN,
        )
        self.up = False
        self.run_id = ""
        self.outdone_by = 0
        self.sidecars: dict[SidecarId, SidecarRecord] = {}
        self.looked = False  # since the last joining record
        self.record: NodeRecord | None = None
        self.identity: Any = None
        self.ends = 0
        self.left = False
        self.joined_at = self.drained_at = 0.0

    def take(self, effects: tuple[Effect, ...]) -> None:
        """Check every effect as it comes."""
        for effect in effects:
            assert not self.left, "nothing is said after the goodbye"
            match effect:
                case SetIdentity(identity):
                    self.identity = identity
                case WriteRecord(record):
                    self.take_record(record)
                case Activated(record, missing):
                    assert record == self.record and record.state is NodeState.ACTIVE
                    assert set(missing) == self.without("covered")
                    assert not missing or self.now >= self.joined_at + JOIN
                    assert self.looked, "it looked before it let anybody publish"
                case PublishEnd(incarnation):
                    self.ends += 1
                    assert self.record is not None and self.up
                    assert incarnation == self.record.incarnation
                    assert self.record.state is NodeState.DRAINING and self.ends == 1
                    assert not self.without("stopped") or self.now >= self.drained_at + DRAIN / 2
                case Left(record):
                    assert record == self.record and record.state is NodeState.GONE
                    self.left = True
                    holding = {s for s in self.sidecars if s not in self.without("covered")}
                    assert not holding or not self.up or self.now >= self.drained_at + DRAIN

    def take_record(self, record: NodeRecord) -> None:
        """Check one record against the one before."""
        before = self.record
        self.record = record
        same_life = before is not None and before.incarnation == record.incarnation
        if before is not None and same_life:
            assert record.version == before.version + 1
            assert record.run_id == before.run_id
            moved = record.state is not before.state
            assert not moved or record.state in MOVES[before.state]
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
            self.looked, self.joined_at = False, self.now

    def without(self, table: str) -> set[SidecarId]:
        """Return the sidecars that do not list this life of the node."""
        assert self.record is not None
        life = self.record.incarnation
        return {
            name for name, each in self.sidecars.items() if getattr(each, table).get(NODE) != life
        }

    @rule(run_id=st.sampled_from(["r1", "r2", "r3"]))
    def redis_up(self, run_id: str) -> None:
        """Redis runs; another run id is another process."""
        self.up, self.run_id = True, run_id
        self.take(self.agent.redis_up(run_id, HERE, self.now))

    @rule()
    def redis_down(self) -> None:
        """Redis is lost."""
        self.up = False
        self.agent.redis_down()

    @rule(says=st.dictionaries(st.sampled_from(["s1", "s2", "s3"]), told))
    def look(self, says: dict[str, str]) -> None:
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
        self.looked = True
        self.take(self.agent.looked(self.sidecars, self.now))

    @rule(ahead=st.integers(-5, 50))
    def outdone(self, ahead: int) -> None:
        """An earlier life of this node id is found in discovery."""
        seen = START_MS + ahead
        self.agent.outdone(seen)
        self.outdone_by = max(self.outdone_by, seen)

    @precondition(lambda self: self.record is not None)
    @rule()
    def drain(self) -> None:
        """Told to leave."""
        assert self.record is not None
        if self.record.state in (NodeState.JOINING, NodeState.ACTIVE):
            self.drained_at = self.now
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
        self.look({"s1": "nothing"})
        if self.agent.state is NodeState.JOINING:
            self.wait(JOIN)
            assert self.record.state is not NodeState.JOINING
        self.drain()
        self.wait(DRAIN)
        assert self.left


TestAgent = AgentMachine.TestCase
