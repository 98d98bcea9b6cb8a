"""Publishing a purge: what is retried, which edges are waited for, and when it ends."""

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from fanout.adjunct.purge import Outcome, Purge, Report, by_key, decode, send_purge
from fanout.client import Gap, Message
from fanout.errors import RequestFailed
from fanout.wire.records import encode_record
from tests.support.adjunct.sidecar import FakeClient

Edges = Callable[[str, int], Awaitable[None]]


def report(purge: str, edge: str, outcome: Outcome, code: str = "") -> Message:
    """Return a report as it comes."""
    data = encode_record(Report(id=purge, edge=edge, outcome=outcome, code=code))
    return Message("purge-report:pool", data)


def answered_by(fake: FakeClient, edges: Edges) -> None:
    """Let edges answer each publish, by the purge's id and how often it was published."""
    count = 0

    async def publish(channel: str, data: bytes) -> int:
        nonlocal count
        count += 1
        assert channel == "purge:pool"
        await edges(decode(Purge, data).id, count)
        return 1

    fake.on_publish = publish


async def test_without_waiting_it_is_published_once() -> None:
    """And nothing is subscribed to."""
    fake = FakeClient()
    answers = await send_purge(fake.client, by_key("a"), origin="me", pool="pool")

    ((_, channel, data),) = fake.published
    assert channel == "purge:pool"
    assert decode(Purge, data) == answers.purge
    assert (answers.purge.origin, answers.purge.names) == ("me", ("a",))
    assert fake.subscribed == []


@pytest.mark.parametrize("wait_seconds", [0.0, 5.0])
async def test_a_refusal_is_told(wait_seconds: float, autojump_clock: MockClock) -> None:
    """It would be refused again."""
    fake = FakeClient()

    async def publish(_channel: str, _data: bytes) -> int:
        raise RequestFailed("forbidden", "no right")

    fake.on_publish = publish
    with pytest.raises(RequestFailed, match="forbidden"):
        await send_purge(fake.client, by_key("a"), origin="me", wait_seconds=wait_seconds)
    assert len(fake.published) == 1


async def test_nobody_there_is_an_error() -> None:
    """A purge without receivers fails."""
    fake = FakeClient()

    async def publish(_channel: str, _data: bytes) -> int:
        return 0

    fake.on_publish = publish
    with pytest.raises(RequestFailed) as caught:
        await send_purge(fake.client, by_key("a"), origin="me")
    assert caught.value.code == "no_edge"


async def test_it_is_over_when_all_that_answered_have_applied_it(
    autojump_clock: MockClock,
) -> None:
    """An edge that missed the first publish answers the second; what is not about it is ignored."""
    fake = FakeClient()

    async def edges(purge: str, count: int) -> None:
        fake.put.send_nowait(report(purge, "a", Outcome.APPLIED))
        fake.put.send_nowait(report("other", "x", Outcome.PENDING))
        fake.put.send_nowait(Message("elsewhere", report(purge, "y", Outcome.PENDING).data))
        fake.put.send_nowait(Message("purge-report:pool", b"not a report"))
        fake.put.send_nowait(Gap("node", "lost"))
        if count == 2:
            fake.put.send_nowait(report(purge, "b", Outcome.PENDING))
        if count == 4:
            fake.put.send_nowait(report(purge, "b", Outcome.APPLIED))

    answered_by(fake, edges)
    answers = await send_purge(fake.client, by_key("a"), origin="me", pool="pool", wait_seconds=60)
    assert fake.subscribed == ["purge-report:pool"]
    assert [when for when, _, _ in fake.published] == [0.0, 1.0, 2.0, 3.0]
    assert len({data for _, _, data in fake.published}) == 1
    assert sorted(answers.edges) == ["a", "b"]
    assert answers.whole


async def test_those_that_are_expected_are_waited_for_and_no_longer(
    autojump_clock: MockClock,
) -> None:
    """One round is enough when they have answered; a failure is an answer too."""
    fake = FakeClient()

    async def edges(purge: str, _count: int) -> None:
        fake.put.send_nowait(report(purge, "a", Outcome.APPLIED))
        fake.put.send_nowait(report(purge, "b", Outcome.FAILED, "cache_refused"))

    answered_by(fake, edges)
    answers = await send_purge(
        fake.client, by_key("a"), origin="me", pool="pool", wait_seconds=60, expected=["a", "b"]
    )
    assert len(fake.published) == 1
    assert not answers.whole
    assert answers.edges["b"] == Report(
        id=answers.purge.id, edge="b", outcome=Outcome.FAILED, code="cache_refused"
    )


@pytest.mark.parametrize("expected", [[], ["a"]])
async def test_silence_ends_with_the_time(expected: list[str], autojump_clock: MockClock) -> None:
    """An expected edge that is silent is listed; without any edge the answers are not whole."""
    fake = FakeClient()
    answers = await send_purge(
        fake.client, by_key("a"), origin="me", wait_seconds=7.5, expected=expected
    )
    assert trio.current_time() == 7.5
    assert answers.edges == dict.fromkeys(expected)
    assert not answers.whole


async def test_a_lost_publish_is_no_round(autojump_clock: MockClock) -> None:
    """Two publishes that arrived are needed before no other edge is expected."""
    fake = FakeClient()
    codes = {1: "no_node", 3: "outcome_unknown", 4: "publish_failed"}

    async def edges(purge: str, count: int) -> None:
        if count in codes:
            raise RequestFailed(codes[count], "none")
        fake.put.send_nowait(report(purge, "a", Outcome.APPLIED))

    answered_by(fake, edges)
    answers = await send_purge(fake.client, by_key("a"), origin="me", pool="pool", wait_seconds=60)
    assert answers.whole
    assert len(fake.published) == 5


async def test_no_more_edges_are_kept_than_may_be(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """Any client that may report may invent names."""
    monkeypatch.setattr("fanout.adjunct.purge.EDGES_MAX", 3)
    fake = FakeClient()

    async def edges(purge: str, _count: int) -> None:
        for number in range(9):
            fake.put.send_nowait(report(purge, f"e{number}", Outcome.APPLIED))

    answered_by(fake, edges)
    answers = await send_purge(fake.client, by_key("a"), origin="me", pool="pool", wait_seconds=9)
    assert sorted(answers.edges) == ["e0", "e1", "e2"]


@pytest.mark.parametrize(("silent", "code"), [(False, "no_node"), (True, "no_sidecar")])
async def test_a_purge_that_was_not_published_in_time_is_an_error(
    silent: bool,  # noqa: FBT001
    code: str,
    autojump_clock: MockClock,
) -> None:
    """Not a silence of the edges: with the last failure, if there was one."""
    fake = FakeClient()

    async def publish(_channel: str, _data: bytes) -> int:
        if silent:
            await trio.sleep_forever()
        raise RequestFailed("no_node", "none")

    fake.on_publish = publish
    with pytest.raises(RequestFailed) as caught:
        await send_purge(fake.client, by_key("a"), origin="me", wait_seconds=5)
    assert caught.value.code == code
