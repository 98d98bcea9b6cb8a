"""What an edge asks of its cache: nothing is passed over, and all of it comes to an end."""

from collections.abc import Iterator
from math import inf
from random import Random

import attrs
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fanout.adjunct.purge import plan as plan_module
from fanout.adjunct.purge.message import Outcome, Purge, Report, Target, by_key, everything
from fanout.adjunct.purge.plan import Effect, Emptied, Failure, Job, Plan

GONE = Failure("cache_unreachable", "gone")
NO = Failure("cache_refused", "no", final=True)
SETTLE_SECONDS = 2.0
INTERVAL_SECONDS = 10.0
ATTEMPTS_MAX = 3


def purge_of(number: int, target: Target | None = None) -> Purge:
    """Return a purge by its number."""
    target = target or by_key(f"k{number}")
    return Purge(id=f"p{number}", kind=target.kind, names=target.names, time=0.0, origin="o")


def new_plan(settle_seconds: float = 0.0, *, started: bool = True) -> Plan:
    """Return a plan; nothing is owed any more if it is `started`."""
    plan = Plan(
        "e",
        Random(1),
        settle_seconds=settle_seconds,
        everything_interval_seconds=INTERVAL_SECONDS,
        attempts_max=ATTEMPTS_MAX,
    )
    if started:
        for now in (-100.0, -50.0)[: 2 if settle_seconds else 1]:
            job = taken(plan, now)
            plan.finish(job, now)
    return plan


def taken(plan: Plan, now: float) -> Job:
    """Return the job that is there to be taken."""
    job = plan.take(now)
    assert job is not None
    return job


def report(number: int, outcome: Outcome, failure: Failure | None = None) -> Report:
    """Return a report about a purge by its number."""
    code, message = (failure.code, failure.message) if failure else ("", "")
    return Report(id=f"p{number}", edge="e", outcome=outcome, code=code, message=message)


def test_everything_is_owed_at_the_start() -> None:
    """What was missed before nobody knows; only when it is done the edge is ready."""
    plan = new_plan(started=False)
    job = taken(plan, 0.0)

    assert job.target == everything()
    assert plan.take(0.0) is None
    assert plan.finish(job, 1.0) == (Emptied("start"),)
    assert plan.next_deadline() == inf


def test_a_purge_is_taken_once_and_a_repeat_hears_how_it_stands() -> None:
    """Pending, then its end, however often it comes."""
    plan = new_plan()
    assert plan.receive(purge_of(1), 0.0) == (report(1, Outcome.PENDING),)
    job = taken(plan, 0.0)
    assert (job.target, job.ids) == (by_key("k1"), ["p1"])
    assert plan.receive(purge_of(1), 0.1) == (report(1, Outcome.PENDING),)
    assert plan.take(0.1) is None
    assert plan.finish(job, 0.2) == (report(1, Outcome.APPLIED),)
    assert plan.receive(purge_of(1), 0.3) == (report(1, Outcome.APPLIED),)
    assert plan.take(0.3) is None


def test_with_time_to_settle_it_is_applied_twice() -> None:
    """The second time not before the time is over, and only then it is said."""
    plan = new_plan(SETTLE_SECONDS)
    plan.receive(purge_of(1), 0.0)
    job = taken(plan, 0.0)
    assert plan.finish(job, 1.0) == ()
    assert plan.next_deadline() == 1.0 + SETTLE_SECONDS
    assert plan.take(2.9) is None
    again = taken(plan, 3.0)
    assert again.target == by_key("k1")
    assert plan.finish(again, 3.1) == (report(1, Outcome.APPLIED),)


def test_everything_stands_for_all_that_wait() -> None:
    """One request for a crowd; what comes later is asked for by itself."""
    plan = new_plan()
    for number, target in ((1, None), (2, everything()), (3, None)):
        plan.receive(purge_of(number, target), 0.0)
    first = taken(plan, 0.0)
    assert first.ids == ["p1"]
    job = taken(plan, 0.0)
    assert (job.target, job.ids) == (everything(), ["p2", "p3"])
    plan.receive(purge_of(4), 0.1)
    assert plan.finish(job, 0.2) == (report(2, Outcome.APPLIED), report(3, Outcome.APPLIED))
    assert taken(plan, 0.2).ids == ["p4"]


def test_gaps_in_quick_succession_empty_the_cache_once_in_a_while() -> None:
    """The first at once, all that follow together when the time has come; purges go on."""
    plan = new_plan()
    plan.owe("gap", 0.0)
    assert plan.finish(taken(plan, 0.0), 0.1) == (Emptied("gap"),)
    plan.owe("gap", 1.0)
    plan.owe("gap", 2.0)
    assert plan.take(2.0) is None
    plan.receive(purge_of(1), 3.0)
    assert plan.finish(taken(plan, 3.0), 3.0) == (report(1, Outcome.APPLIED),)
    assert plan.next_deadline() == INTERVAL_SECONDS
    assert plan.finish(taken(plan, INTERVAL_SECONDS), 11.0) == (Emptied("gap"),)
    assert plan.next_deadline() == inf


def test_a_gap_while_everything_is_purged_is_owed_again() -> None:
    """What is missed after the request began is not in it."""
    plan = new_plan()
    plan.owe("gap", 0.0)
    job = taken(plan, 0.0)
    plan.owe("gap", 0.5)
    assert plan.finish(job, 1.0) == (Emptied("gap"),)
    assert plan.finish(taken(plan, INTERVAL_SECONDS), 11.0) == (Emptied("gap"),)


def fail(plan: Plan, now: float, failure: Failure = GONE) -> tuple[float, tuple[Effect, ...]]:
    """Let the next attempt fail; return when it was made and what is told."""
    now = max(now, plan.next_deadline())
    return now, plan.finish(taken(plan, now), now, failure)


def test_a_cache_that_is_away_is_tried_at_times_that_spread_and_everything_is_owed() -> None:
    """The report after the last attempt; then everything, until it works."""
    plan = new_plan()
    plan.receive(purge_of(1), 0.0)
    now = 0.0
    for attempt in range(ATTEMPTS_MAX):
        now, told = fail(plan, now)
        assert told == ((report(1, Outcome.FAILED, GONE),) if attempt == ATTEMPTS_MAX - 1 else ())
        assert now < plan.next_deadline() <= now + 0.2 * 2**attempt
    for _ in range(100):
        now, told = fail(plan, now)
        assert told == ()
        assert plan.next_deadline() <= now + 5.0
    now = plan.next_deadline()
    job = taken(plan, now)
    assert job.target == everything()
    assert plan.finish(job, now) == (Emptied("cache_unreachable"),)
    assert plan.next_deadline() == inf
    assert plan.receive(purge_of(1), now) == (report(1, Outcome.FAILED, GONE),)


def test_what_the_cache_refuses_is_reported_and_empties_nothing() -> None:
    """Else a name that it does not like would."""
    plan = new_plan()
    plan.receive(purge_of(1), 0.0)
    assert fail(plan, 0.0, NO) == (0.0, (report(1, Outcome.FAILED, NO),))
    assert plan.next_deadline() == inf


def test_a_cache_that_refuses_what_is_owed_is_asked_again_in_a_while() -> None:
    """Somebody may mend its settings; and whoever waits hears of it."""
    plan = new_plan()
    plan.owe("gap", 0.0)
    plan.receive(purge_of(1), 0.0)
    assert fail(plan, 0.0, NO) == (0.0, (report(1, Outcome.FAILED, NO),))
    assert plan.next_deadline() == INTERVAL_SECONDS
    assert plan.finish(taken(plan, INTERVAL_SECONDS), 11.0) == (Emptied("gap"),)


def test_a_cache_that_asks_for_a_rest_gets_it() -> None:
    """Nothing is asked of it before."""
    plan = new_plan()
    plan.receive(purge_of(1), 0.0)
    plan.receive(purge_of(2), 0.0)
    fail(plan, 0.0, Failure("cache_unready", "busy", retry_seconds=30.0))
    assert plan.take(29.9) is None
    assert plan.next_deadline() == 30.0
    assert taken(plan, 30.0).ids == ["p1"]


def test_requests_that_fail_together_count_as_one_failure() -> None:
    """Else eight at a time would be at the longest wait at once."""
    plan = new_plan()
    jobs = []
    for number in range(8):
        plan.receive(purge_of(number), 0.0)
        jobs.append(taken(plan, 0.0))
    for job in jobs:
        plan.finish(job, 0.0, GONE)
    assert plan.next_deadline() <= 0.2


def test_too_many_purges_are_owed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are reported as failed, with what is done instead, and it is done."""
    monkeypatch.setattr(plan_module, "WAITING_MAX", 2)
    plan = new_plan()
    for number in (1, 2):
        plan.receive(purge_of(number), 0.0)
    (third,) = plan.receive(purge_of(3), 0.0)
    assert (third.outcome, third.code) == (Outcome.FAILED, "overflow")
    job = taken(plan, 0.0)
    assert job.target == everything()
    assert plan.finish(job, 0.1) == (
        report(1, Outcome.APPLIED),
        report(2, Outcome.APPLIED),
        Emptied("overflow"),
    )


def test_old_purges_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest first; one that comes again is applied again."""
    monkeypatch.setattr(plan_module, "REMEMBERED_MAX", 2)
    plan = new_plan()
    for number in (1, 2, 3):
        plan.receive(purge_of(number), 0.0)
        plan.finish(taken(plan, 0.0), 0.0)
    assert plan.receive(purge_of(2), 0.0) == (report(2, Outcome.APPLIED),)
    assert plan.receive(purge_of(1), 0.0) == (report(1, Outcome.PENDING),)


def test_what_comes_before_the_second_time_of_everything_gets_two_of_its_own() -> None:
    """Also when the second time fails at first, and waits beside what came later."""
    plan = new_plan(SETTLE_SECONDS)
    plan.receive(purge_of(1, everything()), 0.0)
    plan.finish(taken(plan, 0.0), 0.0)
    now, _ = fail(plan, SETTLE_SECONDS)
    plan.receive(purge_of(2), now)
    now = plan.next_deadline()
    again = taken(plan, now)
    assert again.ids == ["p1"]
    assert plan.finish(again, now) == (report(1, Outcome.APPLIED),)
    assert plan.finish(taken(plan, now), now) == ()
    now = plan.next_deadline()
    assert plan.finish(taken(plan, now), now) == (report(2, Outcome.APPLIED),)


def test_each_of_both_times_has_its_attempts() -> None:
    """A failure before the first success does not count for the second."""
    plan = new_plan(SETTLE_SECONDS)
    plan.receive(purge_of(1), 0.0)
    now = 0.0
    for told in ((), (report(1, Outcome.APPLIED),)):
        for _ in range(ATTEMPTS_MAX - 1):
            now, nothing = fail(plan, now)
            assert nothing == ()
        now = plan.next_deadline()
        assert plan.finish(taken(plan, now), now) == told


def test_what_is_done_waits_no_longer() -> None:
    """However many purges there were, only those that wait count."""
    plan = new_plan()
    for number in range(10 * plan_module.WAITING_MAX):
        assert plan.receive(purge_of(number), 0.0) == (report(number, Outcome.PENDING),)
        assert plan.finish(taken(plan, 0.0), 0.0) == (report(number, Outcome.APPLIED),)


@attrs.frozen
class Request:
    """What the cache did."""

    began: float
    ended: float
    target: Target


class PlanMachine(RuleBasedStateMachine):
    """Any order of events, against what a cache was really asked."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.plan = new_plan(SETTLE_SECONDS, started=False)
        self.purges: dict[str, tuple[Purge, float]] = {}
        self.ends: dict[str, Report] = {}
        self.owed: list[float] = [0.0]
        self.running: list[tuple[Job, float]] = []
        self.done: list[Request] = []

    def told(self, effects: tuple[Effect, ...]) -> None:
        """Check what is told against what was done."""
        for effect in effects:
            if not isinstance(effect, Report) or effect.outcome is Outcome.PENDING:
                continue
            if effect.id in self.ends:
                assert effect == self.ends[effect.id]
                continue
            self.ends[effect.id] = effect
            if effect.outcome is Outcome.APPLIED:
                purge, since = self.purges[effect.id]
                assert self.applied_twice(purge.target, since)
            elif effect.code in (GONE.code, "overflow"):
                self.owed.append(self.now)

    def applied_twice(self, target: Target, since: float) -> bool:
        """Whether the cache did it, and again after the answers on their way had come."""
        fit = [each for each in self.done if each.target in (target, everything())]
        return any(
            first.began >= since and second.began >= first.ended + SETTLE_SECONDS
            for first in fit
            for second in fit
        )

    @rule(number=st.integers(0, 20), of_all=st.booleans())
    def receive(self, number: int, of_all: bool) -> None:  # noqa: FBT001
        """A purge comes, perhaps not for the first time."""
        purge, _ = self.purges.setdefault(
            f"p{number}", (purge_of(number, everything() if of_all else None), self.now)
        )
        reports = self.plan.receive(purge, self.now)
        assert len(reports) == 1
        if purge.id in self.ends:
            assert reports == (self.ends[purge.id],)
        self.told(reports)

    @rule()
    def gap(self) -> None:
        """Something may have been missed."""
        self.plan.owe("gap", self.now)
        self.owed.append(self.now)

    @rule(seconds=st.floats(0.01, 15.0))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    @rule()
    def take(self) -> None:
        """A worker looks for work: there is some exactly when the deadline has come."""
        due = self.plan.next_deadline()
        job = self.plan.take(self.now)
        assert (job is not None) is (due <= self.now)
        if job is not None:
            self.running.append((job, self.now))

    @precondition(lambda self: self.running)
    @rule(index=st.integers(0, 7), failure=st.sampled_from([None, None, GONE, NO]))
    def finish(self, index: int, failure: Failure | None) -> None:
        """A request ends."""
        job, began = self.running.pop(index % len(self.running))
        if failure is None:
            self.done.append(Request(began, self.now, job.target))
        self.told(self.plan.finish(job, self.now, failure))
        assert job.attempts <= ATTEMPTS_MAX

    @invariant()
    def is_bounded(self) -> None:
        """No more waits than may."""
        assert len(self.plan._open) <= plan_module.WAITING_MAX

    def teardown(self) -> None:
        """When the cache works again, all comes to an end and nothing is passed over."""
        while self.running:
            self.finish(0, None)
        for _ in range(1000):
            if (due := self.plan.next_deadline()) == inf:
                break
            self.now = max(self.now, due) + 0.001
            self.take()
            self.finish(0, None)
        assert self.plan.next_deadline() == inf
        assert self.purges.keys() == self.ends.keys()
        assert all(self.applied_twice(everything(), since) for since in self.owed)


@pytest.fixture(autouse=True, scope="module")
def few_may_wait() -> Iterator[None]:
    """Let the machine come to the limit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan_module, "WAITING_MAX", 8)
        yield


TestPlan = PlanMachine.TestCase
