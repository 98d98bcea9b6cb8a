"""The edge agent: what it requests of its cache, when, and what it reports."""

import itertools
import json

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fanout.adjunct import edge as edge_module
from fanout.client import Gap, Message
from fanout.errors import RequestFailed
from fanout.runtime.process.logs import configure_logging
from tests.support.adjunct.scene import (
    APPLIED,
    ATTEMPTS,
    AWAY,
    FAILED,
    INTERVAL,
    PENDING,
    REFUSED,
    SETTLE,
    message,
    running,
)


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return what the edge announced; the log goes the same way where nothing set it up."""
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("ready")]


async def test_an_edge_empties_its_cache_before_it_is_ready(
    capsys: pytest.CaptureFixture[str], autojump_clock: MockClock
) -> None:
    """Until it works, at times that spread; ready is said once."""
    async with running(code=AWAY) as scene:
        await trio.sleep(60)
        times = [when for when, _ in scene.asked]
        waits = [later - sooner for sooner, later in itertools.pairwise(times)]
        assert all(wait <= min(5.0, 0.2 * 2**n) for n, wait in enumerate(waits))
        assert 12 < len(times) < 100
        assert said(capsys) == []
        scene.code = ""
        await trio.sleep(5)
        assert said(capsys) == ["ready edge=e cache=nginx"]
        await scene.gap()
        await trio.sleep(20)
        assert said(capsys) == []


async def test_a_purge_is_taken_once_and_a_repeat_hears_how_it_stands(
    autojump_clock: MockClock,
) -> None:
    """Pending, then its end, however often it comes."""
    async with running() as scene:
        scene.seconds = 1.0
        await scene.say(1, 1)
        await trio.sleep(2)
        await scene.say(1)
        assert scene.take() == ["k1"]
        states = (PENDING, PENDING, APPLIED, APPLIED)
        assert scene.outcomes == [("1", each, "") for each in states]


async def test_with_time_to_settle_it_is_applied_twice(autojump_clock: MockClock) -> None:
    """The second time when the time is over since the first was done, and only then it is said."""
    async with running(SETTLE) as scene:
        scene.seconds = 0.5
        began = trio.current_time()
        await scene.say(1)
        await trio.sleep(0.5 + SETTLE + 0.4)
        assert [when - began for when, _ in scene.asked] == [0.0, 0.5 + SETTLE]
        assert scene.outcomes == [("1", PENDING, "")]
        await trio.sleep(0.2)
        assert scene.outcomes[1:] == [("1", APPLIED, "")]


async def test_each_of_both_times_has_its_attempts(autojump_clock: MockClock) -> None:
    """A failure before the first success does not count for the second."""
    async with running(SETTLE) as scene:
        scene.codes = ([AWAY] * (ATTEMPTS - 1) + [""]) * 2
        await scene.say(1)
        await trio.sleep(60)
        assert scene.take() == ["k1"] * 2 * ATTEMPTS
        assert scene.outcomes[1:] == [("1", APPLIED, "")]


async def test_a_cache_that_is_away_is_reported_and_emptied_when_it_is_back(
    autojump_clock: MockClock,
) -> None:
    """After the last attempt; then everything, until it works. What is done is not done again."""
    async with running() as scene:
        scene.code = AWAY
        await scene.say(1)
        await trio.sleep(60)
        keys = [each for each in scene.take() if each != "*"]
        assert keys == ["k1"] * ATTEMPTS
        await scene.say(2)
        await trio.sleep(60)
        assert scene.outcomes[1:] == [("1", FAILED, AWAY), ("2", PENDING, ""), ("2", FAILED, AWAY)]
        assert scene.reports[1].message == "no"
        scene.take()
        scene.code = ""
        await trio.sleep(60)
        assert scene.take() == ["*"]
        await scene.say(1, 3)
        assert {("1", FAILED, AWAY), ("3", APPLIED, "")} <= set(scene.outcomes[4:])
        assert scene.take() == ["k3"]


async def test_what_the_cache_refuses_is_reported_and_empties_nothing(
    autojump_clock: MockClock,
) -> None:
    """At once; else a name that it does not like would."""
    async with running() as scene:
        scene.code = REFUSED
        await scene.say(1)
        assert scene.outcomes[1:] == [("1", FAILED, REFUSED)]
        await trio.sleep(60)
        assert scene.take() == ["k1"]


async def test_a_cache_that_refuses_what_is_owed_is_asked_again_in_a_while(
    capsys: pytest.CaptureFixture[str], autojump_clock: MockClock
) -> None:
    """Its settings may have been corrected."""
    async with running(code=REFUSED) as scene:
        await trio.sleep(2.5 * INTERVAL)
        assert scene.take() == ["*"] * 3
        scene.code = ""
        await trio.sleep(INTERVAL)
        assert scene.take() == ["*"]
        assert said(capsys) == ["ready edge=e cache=nginx"]


async def test_gaps_in_quick_succession_empty_the_cache_once_in_a_while(
    autojump_clock: MockClock,
) -> None:
    """The first at once, all that follow together when the time has come; purges go on."""
    async with running() as scene:
        await scene.gap()
        assert scene.take() == ["*"]
        for _ in range(3):
            await trio.sleep(1)
            await scene.gap()
        await scene.say(1)
        assert scene.take() == ["k1"]
        await trio.sleep(INTERVAL - 3.5)
        assert scene.take() == []
        await trio.sleep(1)
        assert scene.take() == ["*"]
        await trio.sleep(60)
        assert scene.take() == []


async def test_a_gap_while_everything_is_purged_is_owed_again(autojump_clock: MockClock) -> None:
    """What is missed after the request began is not in it."""
    async with running() as scene:
        scene.seconds = 1.0
        await scene.gap()
        await scene.gap()
        await trio.sleep(60)
        assert scene.take() == ["*", "*"]


async def test_everything_stands_for_all_that_came_before(autojump_clock: MockClock) -> None:
    """It passes those that wait, and they need not ask; what comes later does."""
    async with running() as scene:
        scene.seconds = 1.0
        first, second, third = range(1, 9), range(9, 20), range(20, 30)
        await scene.say(*first, *second)
        assert sorted(scene.take()) == sorted(f"k{number}" for number in first)
        await trio.sleep(0.5)
        scene.seconds = 0.1
        await scene.gap()
        await scene.say(*third)
        assert scene.take() == ["*"]
        await trio.sleep(5)
        assert sorted(scene.take()) == sorted(f"k{number}" for number in third)
        ends = [each for each in scene.outcomes if each[1] is not PENDING]
        assert sorted(ends) == sorted((str(number), APPLIED, "") for number in range(1, 30))


async def test_too_many_purges_are_owed_together(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """They are reported as failed, and everything is purged; only those that wait count."""
    monkeypatch.setattr(edge_module, "WAITING_MAX", 2)
    async with running() as scene:
        for number in range(5):
            await scene.say(number)
        assert all(outcome in (PENDING, APPLIED) for _, outcome, _ in scene.outcomes)
        scene.seconds = 1.0
        scene.take()
        await scene.say(5, 6, 7)
        assert scene.outcomes[-1] == ("7", FAILED, "overflow")
        await trio.sleep(60)
        assert sorted(scene.take()) == ["*", "k5", "k6"]


async def test_old_purges_are_forgotten(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """The oldest first; one that comes again is applied again."""
    monkeypatch.setattr(edge_module, "KNOWN_MAX", 2)
    async with running() as scene:
        for number in (1, 2, 3, 2, 1):
            await scene.say(number)
        assert scene.take() == ["k1", "k2", "k3", "k1"]


@pytest.mark.parametrize(
    "data", [b"no purge", json.dumps({"id": "1", "kind": "tag", "names": [], "origin": "o"}).encode(),
             message(1).replace(b"k1", b".*")]
)  # fmt: skip
async def test_a_purge_that_cannot_be_read_empties_the_cache(
    data: bytes, autojump_clock: MockClock
) -> None:
    """Its targets are unknown."""
    async with running() as scene:
        scene.fake.put.send_nowait(Message("purge:p", data))
        await wait_all_tasks_blocked()
        assert scene.take() == ["*"]
        assert scene.reports == []


async def test_a_report_that_fails_is_the_only_one_that_is_lost(autojump_clock: MockClock) -> None:
    """The next is published."""
    async with running() as scene:
        codes = ["no_node"]

        async def publish(_channel: str, _data: bytes) -> int:
            if codes:
                raise RequestFailed(codes.pop(), "none")
            return 1

        scene.fake.on_publish = publish
        await scene.say(1)
        assert scene.outcomes == [("1", PENDING, ""), ("1", APPLIED, "")]


async def test_purges_do_not_wait_for_reports(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """While the sidecar takes none, as many are kept as may be."""
    monkeypatch.setattr(edge_module, "REPORTS_MAX", 3)
    async with running() as scene:
        taken = trio.Event()

        async def publish(_channel: str, _data: bytes) -> int:
            await taken.wait()
            return 1

        scene.fake.on_publish = publish
        for number in range(9):
            await scene.say(number)
        assert scene.take() == [f"k{number}" for number in range(9)]
        taken.set()
        await wait_all_tasks_blocked()
        assert len(scene.reports) == 1 + 3


def test_the_log_says_when_the_sidecar_is_away_and_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Once each."""
    configure_logging("info", "json")

    async def main() -> None:
        async with running() as scene:
            for _ in range(2):
                for why in ("refused", "refused"):
                    scene.edge.away(why)
                scene.fake.put.send_nowait(Gap("", "reconnected"))
                await wait_all_tasks_blocked()

    trio.run(main, clock=MockClock(autojump_threshold=0))
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    told = [each.get("why", each.get("reason")) for each in events if each["level"] == "warning"]
    assert told == ["refused", "reconnected"] * 2
