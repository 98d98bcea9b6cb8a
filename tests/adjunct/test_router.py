"""The router: the choice of a server by intent, measurements and the reader's own writes."""

from collections import Counter
from collections.abc import Mapping
from math import inf
from random import Random
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fanout.adjunct.flavours import Position
from fanout.adjunct.routing import MEASURE_SECONDS, OwnWrites, Router, RoutingConfig
from fanout.adjunct.topology import DatabaseError, DatabaseRecord
from fanout.errors import SettingError

CONFIG = RoutingConfig()
LAG = CONFIG.lag_seconds_max
BELIEVED = 3 * CONFIG.measure_interval_seconds + MEASURE_SECONDS
PRIMARY, A, B, C = (f"h:{port}" for port in (1, 2, 3, 4))


def at(number: int) -> Position:
    """Return a position."""
    return Position.parse(f"0-1-{number}")


EVEN = {A: 1, B: 1, C: 1}


def topology(
    weights: Mapping[str, int] = EVEN, *, version: int = 1, primary: str = PRIMARY
) -> DatabaseRecord:
    """Return one with these replicas."""
    return DatabaseRecord(
        cluster="c", database="shop", version=version, primary=primary, replicas=weights
    )


def router(weights: Mapping[str, int] = EVEN) -> Router:
    """Return a router whose servers were all measured at 0 and are where the primary is."""
    made = Router("shop", CONFIG, Random(1))
    made.adopt(topology(weights))
    for endpoint in (PRIMARY, *weights):
        made.observe(endpoint, at(1), 0.0)
    return made


def read(
    made: Router, now: float = 0.0, own: OwnWrites | None = None, rounds: int = 12
) -> set[str]:
    """Return the servers that some reads go to."""
    return {made.read(now, own) for _ in range(rounds)}


def test_without_a_topology_there_is_a_clear_error() -> None:
    """For reads and for writes, and it names the way out."""
    made = Router("shop", CONFIG, Random(1))
    for ask in (lambda: made.topology, lambda: made.read(0.0)):
        with pytest.raises(DatabaseError, match="fanout-sidecar replicas set shop") as unknown:
            ask()
        assert unknown.value.code == "TOPOLOGY_UNKNOWN"


def test_a_topology_that_is_not_newer_changes_nothing() -> None:
    """Discovery has several instances, and some may be behind."""
    made = router()
    assert not made.adopt(topology(version=1, primary=A))
    assert not made.adopt(topology(version=0, primary=A))
    assert made.topology.primary == PRIMARY
    assert made.adopt(topology({B: 1}, version=2, primary=A))
    assert made.topology.primary == A


@given(st.dictionaries(st.sampled_from([A, B, C]), st.integers(0, 9), min_size=1))
def test_reads_go_round_by_weight(weights: dict[str, int]) -> None:
    """In each round every replica is asked exactly as often as its weight says."""
    made = router(weights)
    total = sum(weights.values())
    if not total:
        assert read(made) == {PRIMARY}
    for _ in range(3):
        asked = Counter(made.read(0.0) for _ in range(total))
        assert asked == {endpoint: weight for endpoint, weight in weights.items() if weight}


def test_heavy_replicas_are_not_asked_all_at_once() -> None:
    """Their turns are spread over the round."""
    made = router({A: 3, B: 1, C: 1})
    asked = [made.read(0.0) for _ in range(5)]
    assert asked in ([A, B, A, C, A], [A, C, A, B, A])


def test_one_that_does_not_answer_is_left_out_until_it_does() -> None:
    """And so is one that has not been measured for long."""
    made = router()
    made.observe(A, None, 1.0)
    assert read(made, 1.0) == {B, C}
    made.observe(A, at(1), 2.0)
    assert read(made, 2.0) == {A, B, C}
    assert read(made, BELIEVED + 1.0) == {A}
    assert read(made, BELIEVED + 3.0) == {PRIMARY}


def test_one_that_lags_is_left_out_until_it_has_caught_up() -> None:
    """Lag is how long ago the primary was last seen where the replica is."""
    made = router()
    for second in range(1, 8):
        made.observe(PRIMARY, at(1 + second), float(second))
        made.observe(A, at(1 + second), float(second))
        made.observe(B, at(1), float(second))  # where the primary was at 0
        made.observe(C, at(second), float(second))  # where it was a second ago
        assert read(made, float(second)) == ({A, B, C} if second <= LAG else {A, C})
    made.observe(B, at(8), 7.0)
    assert read(made, 7.0) == {A, B, C}


def test_an_idle_primary_makes_nobody_lag() -> None:
    """However long ago it last wrote; and what it then writes is missed for no longer than that."""
    made = router({A: 1})
    made.observe(PRIMARY, at(1), 1000.0)
    made.observe(A, at(1), 1000.0)
    made.observe(PRIMARY, at(2), 1001.0)
    assert read(made, 1001.0) == {A}
    assert read(made, 1000.0 + LAG) == {A}
    made.observe(A, at(1), 1000.1 + LAG)
    assert read(made, 1000.1 + LAG) == {PRIMARY}


def test_a_reader_finds_its_own_writes() -> None:
    """By position where that is known."""
    made = router()
    mine = OwnWrites(at(2), 0.0)
    assert read(made, 0.0, mine) == {PRIMARY}
    made.observe(B, at(2), 0.5)
    assert read(made, 0.5, mine) == {B}
    assert read(made, 0.5) == {A, B, C}
    assert read(made, 0.5, OwnWrites(Position.parse("0/1"), 0.0)) == {
        PRIMARY
    }  # of another database


def test_a_reader_whose_position_is_unknown_reads_from_the_primary_for_a_while() -> None:
    """By time then."""
    made = router()
    mine = OwnWrites(None, 3.0)
    assert read(made, 2.9, mine) == {PRIMARY}
    assert read(made, 3.0, mine) == {A, B, C}


def test_a_new_primary_is_asked_how_far_it_is_before_replicas_are_read() -> None:
    """It may lack the old one's last writes: no replica would ever reach that position."""
    made = router()
    made.observe(PRIMARY, at(9), 0.0)
    made.adopt(topology({A: 1, B: 1}, version=2, primary=C))
    assert read(made) == {C}
    made.observe(A, at(2), 0.1)
    assert read(made, 0.1) == {C}
    made.observe(C, at(2), 0.2)
    assert read(made, 0.2) == {A}


def test_where_the_primary_cannot_be_asked_replicas_are_read() -> None:
    """What they have is the newest there is to be had, for a process that has just started."""
    made = Router("shop", CONFIG, Random(1))
    made.adopt(topology())
    made.observe(A, at(1), 0.0)
    assert read(made) == {PRIMARY}
    made.observe(PRIMARY, None, 0.1)
    assert read(made, 0.1) == {A}


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"lag_seconds_max": 0.0}, "lag_seconds_max"),
        ({"switch_wait_seconds": inf}, "switch_wait_seconds"),
        ({"switch_wait_seconds": -1.0}, "switch_wait_seconds"),
        ({"lag_seconds_max": 1.0, "measure_interval_seconds": 0.6}, "lag_seconds_max"),
    ],
)
def test_wrong_settings_are_refused_by_name(values: dict[str, Any], name: str) -> None:
    """At once, and not when they first matter."""
    with pytest.raises(SettingError, match=name):
        attrs.evolve(CONFIG, **values)


class Replication(RuleBasedStateMachine):
    """A primary that writes and replicas that follow, measured now and then.

    The model is the whole history: what the primary had at each time.
    """

    @initialize()
    def begin(self) -> None:
        """Start without writes and measurements."""
        self.now = 0.0
        self.written = 0
        self.history = [(0.0, 0)]  # since when the primary has had so much
        self.reached = {A: 0, B: 0, C: 0}
        self.measured: dict[str, tuple[float, int | None]] = {}
        self.down: set[str] = set()
        self.asked_at = -inf  # the primary
        self.router = Router("shop", CONFIG, Random(1))
        self.router.adopt(topology({A: 1, B: 2, C: 3}))

    @rule(seconds=st.floats(0.01, 3.0))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    @rule(count=st.integers(1, 5))
    def write(self, count: int) -> None:
        """Write to the primary."""
        self.written += count
        self.history.append((self.now, self.written))

    @rule(replica=st.sampled_from([A, B, C]), data=st.data())
    def replicate(self, replica: str, data: st.DataObject) -> None:
        """Have a replica come further, if not all the way."""
        self.reached[replica] = data.draw(st.integers(self.reached[replica], self.written))

    @rule(server=st.sampled_from([A, B, C]))
    def fail_or_mend(self, server: str) -> None:
        """Have a replica go down or come back."""
        self.down ^= {server}

    @rule()
    def measure_primary(self) -> None:
        """Ask the primary."""
        self.asked_at = self.now
        self.router.observe(PRIMARY, at(self.written), self.now)

    @rule(server=st.sampled_from([A, B, C]))
    def measure(self, server: str) -> None:
        """Ask a replica."""
        reached = None if server in self.down else self.reached[server]
        self.measured[server] = (self.now, reached)
        self.router.observe(server, at(reached) if reached is not None else None, self.now)

    def may_read(self, server: str, wanted: int) -> bool:
        """Return whether a replica answered recently and has the wanted position."""
        measured_at, reached = self.measured.get(server, (-inf, None))
        lately = self.now - measured_at <= BELIEVED
        return lately and reached is not None and reached >= wanted

    @invariant()
    def reads_are_as_new_as_promised(self) -> None:
        """Check that each server read from had, when measured, all that the primary had `LAG` before.

        Once the primary is not asked any more, its last measurement counts.
        """
        chosen = self.router.read(self.now)
        if chosen != PRIMARY:
            known_at = min(self.measured[chosen][0], self.asked_at)
            had = [number for since, number in self.history if since < known_at - LAG]
            assert self.may_read(chosen, had[-1] if had else 0)

    @precondition(lambda self: self.written)
    @rule(data=st.data())
    def own_writes_are_found(self, data: st.DataObject) -> None:
        """A reader is never sent to one that lacks what it wrote."""
        mine = data.draw(st.integers(1, self.written))
        chosen = self.router.read(self.now, OwnWrites(at(mine), 0.0))
        assert chosen == PRIMARY or self.may_read(chosen, mine)

    @rule()
    def replicas_that_are_up_to_date_are_used(self) -> None:
        """Reads are kept off the primary whenever they can be."""
        self.measure_primary()
        for server in (A, B, C):
            self.measure(server)
        fit = {s for s in (A, B, C) if s not in self.down and self.reached[s] == self.written}
        if fit:
            assert self.router.read(self.now) != PRIMARY
            assert {
                self.router.read(self.now, OwnWrites(at(self.written), 0.0)) for _ in range(12)
            } == fit


TestReplication = Replication.TestCase
