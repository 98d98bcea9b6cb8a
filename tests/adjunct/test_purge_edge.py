"""The agent beside a cache, without sidecar and cache: what it does with what comes."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import httpx
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fanout.adjunct.purge import edge as edge_module
from fanout.adjunct.purge.caches import Cache, driver_of
from fanout.adjunct.purge.edge import Edge
from fanout.adjunct.purge.message import (
    Outcome,
    Purge,
    by_key,
    decode_report,
)
from fanout.client import Gap, Message
from fanout.config import EdgeConfig
from fanout.errors import RequestFailed
from fanout.runtime.logs import configure_logging
from fanout.wire.records import encode_record
from tests.adjunct.sidecar import FakeClient

CONFIG = EdgeConfig.from_mapping(
    {
        "id": "e",
        "pool": "p",
        "cache": "http",
        "settle_seconds": 0,
        "key_request": "BAN http://c/{key}",
        "all_request": "BAN http://c/",
    }
)


@attrs.define
class Scene:
    """An edge with its sidecar's client and what its cache was asked for."""

    fake: FakeClient = attrs.field(factory=FakeClient)
    asked: list[str] = attrs.field(factory=list)
    status: int = 200

    async def say(self, data: bytes) -> None:
        """Let a message come and be dealt with."""
        self.fake.put.send_nowait(Message("purge:p", data))
        await wait_all_tasks_blocked()

    def answer(self, request: httpx.Request) -> httpx.Response:
        """Answer as the cache."""
        assert self.fake.subscribed == ["purge:p"]  # before: what comes later is heard
        self.asked.append(request.url.path)
        return httpx.Response(self.status)

    @property
    def reports(self) -> list[tuple[str, Outcome]]:
        """What was reported."""
        assert {channel for _, channel, _ in self.fake.published} <= {"purge-report:p"}
        found = [decode_report(data) for _, _, data in self.fake.published]
        assert {report.edge for report in found} <= {"e"}
        return [(report.id, report.outcome) for report in found]


@asynccontextmanager
async def running() -> AsyncIterator[Scene]:
    """Run an edge."""
    scene = Scene()
    transport = httpx.MockTransport(scene.answer)
    async with httpx.AsyncClient(transport=transport) as http, trio.open_nursery() as nursery:
        cache = Cache(driver_of(CONFIG), http, 1_000_000)
        nursery.start_soon(Edge(CONFIG, cache, scene.fake.client).run)
        await wait_all_tasks_blocked()
        yield scene
        nursery.cancel_scope.cancel()


def message(number: int) -> bytes:
    """Return a purge."""
    target = by_key(f"k{number}")
    return encode_record(
        Purge(id=str(number), kind=target.kind, names=target.names, time=0.0, origin="o")
    )


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return what the edge announced; the log goes the same way where nothing set it up."""
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("ready")]


async def test_an_edge_empties_its_cache_before_it_is_ready(
    capsys: pytest.CaptureFixture[str], autojump_clock: MockClock
) -> None:
    """Ready is said once; then purges are applied and reported, once each."""
    async with running() as scene:
        assert scene.asked == ["/"]
        assert said(capsys) == ["ready edge=e cache=http"]
        await scene.say(message(1))
        await scene.say(message(1))
        assert scene.asked == ["/", "/k1"]
        assert scene.reports == [
            ("1", Outcome.PENDING),
            ("1", Outcome.APPLIED),
            ("1", Outcome.APPLIED),
        ]
        scene.fake.put.send_nowait(Gap("n", "lost"))
        await trio.sleep(CONFIG.everything_interval_seconds + 1)
        assert scene.asked == ["/", "/k1", "/"]
        assert said(capsys) == []


async def test_a_cache_that_is_away_keeps_the_edge_from_being_ready(
    capsys: pytest.CaptureFixture[str], autojump_clock: MockClock
) -> None:
    """It goes on, tells whoever purges, and is ready when the cache is there."""
    async with running() as scene:
        scene.status = 503
        await scene.say(message(1))
        scene.fake.put.send_nowait(Gap("n", "lost"))
        await trio.sleep(60)
        await scene.say(message(2))
        await trio.sleep(60)
        assert scene.reports[-1] == ("2", Outcome.FAILED)
        scene.status = 200
        await trio.sleep(60)
        assert scene.asked[-1] == "/"
        await scene.say(message(3))
        assert scene.reports[-1] == ("3", Outcome.APPLIED)


async def test_a_purge_of_a_later_version_empties_the_cache(autojump_clock: MockClock) -> None:
    """Nobody knows what it was about. What is no purge at all is passed over."""
    async with running() as scene:
        await trio.sleep(CONFIG.everything_interval_seconds)
        await scene.say(b"no purge")
        assert scene.asked == ["/"]
        await scene.say(json.dumps({"v": 2, "type": "purge"}).encode())
        assert scene.asked == ["/", "/"]
        assert scene.reports == []


async def test_a_report_that_fails_is_the_only_one_that_is_lost(
    autojump_clock: MockClock,
) -> None:
    """The next is published."""
    async with running() as scene:
        codes = ["no_node"]

        async def publish(_channel: str, _data: bytes) -> int:
            if codes:
                raise RequestFailed(codes.pop(), "none")
            return 1

        scene.fake.on_publish = publish
        await scene.say(message(1))
        assert scene.reports == [("1", Outcome.PENDING), ("1", Outcome.APPLIED)]


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
            await scene.say(message(number))
        assert scene.asked == ["/", *(f"/k{number}" for number in range(9))]
        taken.set()
        await wait_all_tasks_blocked()
        assert len(scene.reports) == 1 + 3


async def test_the_log_says_when_the_sidecar_is_away_and_back(
    capsys: pytest.CaptureFixture[str], autojump_clock: MockClock
) -> None:
    """Once each."""
    configure_logging("info", "json")
    async with running() as scene:
        scene.fake.trouble = "closed: 1006"
        await trio.sleep(10)
        scene.fake.trouble = ""
        await trio.sleep(10)
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    told = [(each["event"], each.get("why")) for each in events if "sidecar" in each["event"]]
    assert told == [("sidecar_away", "closed: 1006"), ("sidecar_back", None)]
