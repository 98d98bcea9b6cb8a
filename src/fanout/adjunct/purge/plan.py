"""What an edge asks of its cache, and when. A pure machine: the agent's tasks carry it out.

Rules
- A purge is taken once, by its id; whoever repeats it hears how it stands. Ids are remembered up
  to a limit: one that is forgotten and comes again is applied again, which does no harm.
- A purge is applied, and once more after `settle_seconds`: an answer of the origin that was on
  its way at the first time is in the cache by the second. Only then it is reported as applied.
- Nothing that may have been missed is passed over. After a gap, a purge that could not be applied
  in `attempts_max` attempts, or more purges than may wait, everything is owed: a purge of
  everything, tried until it succeeds. A purge that the cache refuses is only reported, for
  otherwise a wrong name would empty caches.
- A purge of everything stands for all that wait when it begins.
- A failure is the cache's, so all wait together until the next attempt.
- Gaps may come in quick succession: between two purges of everything that are owed lie at least
  `everything_interval_seconds`. What is owed meanwhile is owed once.
"""

from collections import OrderedDict, deque
from math import inf
from random import Random

import attrs

from fanout.adjunct.purge.message import Kind, Outcome, Purge, Report, Target, everything
from fanout.core.backoff import Backoff

REMEMBERED_MAX = 10_000
"""Purges whose end is remembered: some 2 MB."""

WAITING_MAX = 10_000
"""Purges that may wait for the cache. At its limit everything is cheaper than each of them."""

BACKOFF = Backoff(first_seconds=0.2, max_seconds=5.0)


@attrs.define(eq=False)
class Job:
    """One thing to ask of the cache, and the purges it is for."""

    target: Target
    ids: list[str]
    because: str = ""  # why everything is owed, if this is what is owed
    attempts: int = 0
    settled: bool = False  # whether this is the second time


@attrs.frozen
class Failure:
    """The cache did not do it. `code` is stable; `message` is for people."""

    code: str
    message: str
    final: bool = False  # it said no, and would again
    retry_seconds: float = 0.0  # how long it asks to be left alone


@attrs.frozen
class Emptied:
    """Everything that was owed is purged; says why it was."""

    because: str


Effect = Report | Emptied


class Plan:
    """The state of one edge. Starts with everything owed: nobody knows what was missed before."""

    def __init__(
        self,
        edge: str,
        rng: Random,
        *,
        settle_seconds: float,
        everything_interval_seconds: float,
        attempts_max: int,
    ) -> None:
        self._edge = edge
        self._rng = rng
        self._settle_seconds = settle_seconds
        self._interval_seconds = everything_interval_seconds
        self._attempts_max = attempts_max
        self._open: set[str] = set()
        self._closed: OrderedDict[str, Report] = OrderedDict()
        self._fresh: deque[Job] = deque()
        self._settling: deque[tuple[float, Job]] = deque()  # with when, in order
        self._owed = "start"  # why everything is owed, or nothing
        self._owed_due = -inf
        self._failures = 0
        self._retry_due = -inf

    def receive(self, purge: Purge, now: float) -> tuple[Report, ...]:
        """Take a purge and return what to report at once."""
        if (report := self._closed.get(purge.id)) is not None:
            return (report,)
        if purge.id not in self._open:
            if len(self._open) >= WAITING_MAX:
                self.owe("overflow", now)
                failure = Failure("overflow", "too many purges wait; everything is purged instead")
                return self._close([purge.id], failure)
            self._open.add(purge.id)
            self._fresh.append(Job(purge.target, [purge.id]))
        return (Report(id=purge.id, edge=self._edge, outcome=Outcome.PENDING),)

    def owe(self, because: str, now: float) -> None:
        """Note that something may have been missed or left undone before `now`."""
        if not self._owed:
            self._owed, self._owed_due = because, max(now, self._owed_due)

    def next_deadline(self) -> float:
        """Return when `take` has something to do, unless something comes in before."""
        due = self._owed_due if self._owed else inf
        if self._fresh:
            due = -inf
        elif self._settling:
            due = min(due, self._settling[0][0])
        return max(due, self._retry_due)

    def take(self, now: float) -> Job | None:
        """Return what to ask of the cache now; its end is then told to `finish`."""
        if now < self._retry_due:
            return None
        if self._owed and self._owed_due <= now:
            job = Job(everything(), [], self._owed)
            self._owed, self._owed_due = "", now + self._interval_seconds
        elif self._settling and self._settling[0][0] <= now:
            return self._settling.popleft()[1]
        elif self._fresh:
            job = self._fresh.popleft()
        else:
            return None
        if job.target.kind is Kind.ALL and not job.settled:
            for other in self._fresh:
                job.ids += other.ids
                job.because = job.because or other.because
            self._fresh.clear()
        return job

    def finish(self, job: Job, now: float, failure: Failure | None = None) -> tuple[Effect, ...]:
        """Note how the cache answered and return what to tell."""
        if failure is None:
            self._failures = 0
            if not job.settled and self._settle_seconds:
                job.settled, job.attempts = True, 0
                self._settling.append((now + self._settle_seconds, job))
                return ()
            emptied = (Emptied(job.because),) if job.because else ()
            return (*self._close(job.ids), *emptied)
        if not failure.final:
            if now >= self._retry_due:  # else several were under way and failed together
                delay = BACKOFF.delay_seconds(self._failures, self._rng)
                self._retry_due = now + max(delay, failure.retry_seconds)
                self._failures += 1
            job.attempts += 1
            if job.attempts < self._attempts_max:
                self._fresh.appendleft(job)
                return ()
            if job.because:  # nothing was emptied, so the origin needs no rest
                self._owed_due = -inf
        if job.because or not failure.final:
            self.owe(job.because or failure.code, now)
        return self._close(job.ids, failure)

    def _close(self, ids: list[str], failure: Failure | None = None) -> tuple[Report, ...]:
        outcome = Outcome.APPLIED if failure is None else Outcome.FAILED
        code, message = (failure.code, failure.message) if failure else ("", "")
        reports = tuple(
            Report(id=each, edge=self._edge, outcome=outcome, code=code, message=message)
            for each in ids
        )
        self._open.difference_update(ids)
        self._closed.update({report.id: report for report in reports})
        while len(self._closed) > REMEMBERED_MAX:
            self._closed.popitem(last=False)
        return reports
