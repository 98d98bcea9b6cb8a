"""An edge between a sidecar and a cache that are none, for its tests."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import attrs
import trio
from trio.testing import wait_all_tasks_blocked

from fanout.adjunct.caches import Cache, CacheFailed
from fanout.adjunct.edge import Edge
from fanout.adjunct.purge import Outcome, Purge, Report, Target, by_key, decode
from fanout.client import Gap, Message
from fanout.config import EdgeConfig
from fanout.wire.records import encode_record
from tests.support.adjunct.sidecar import FakeClient

SETTLE = 2.0
INTERVAL = 10.0
ATTEMPTS = 3
AWAY, REFUSED = "cache_unreachable", "cache_refused"
PENDING, APPLIED, FAILED = Outcome


@attrs.define(eq=False)
class Scene:
    """An edge with its sidecar's client, and a cache that keeps when it did what it was asked."""

    settle: float = 0.0
    fake: FakeClient = attrs.field(factory=FakeClient)
    code: str = ""  # with which the cache fails
    codes: list[str] = attrs.field(factory=list)  # and before that, one each time
    seconds: float = 0.0  # that it takes
    asked: list[tuple[float, Target]] = attrs.field(factory=list)
    done: list[tuple[float, float, Target]] = attrs.field(factory=list)
    edge: Edge = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Make the edge."""
        values = {
            "id": "e", "pool": "p", "cache": "nginx", "cache_url": "http://c",
            "settle_seconds": self.settle, "everything_interval_seconds": INTERVAL,
            "attempts_max": ATTEMPTS,
        }  # fmt: skip
        self.edge = Edge(EdgeConfig.from_mapping(values), cast("Cache", self))

    async def purge(self, purge: Target) -> None:
        """Do as the cache."""
        assert self.fake.subscribed == ["purge:p"]  # before: what comes later is heard
        began, target = trio.current_time(), Target(purge.kind, purge.names)
        self.asked.append((began, target))
        await trio.sleep(self.seconds)
        if code := self.codes.pop(0) if self.codes else self.code:
            raise CacheFailed(code, "no")
        self.done.append((began, trio.current_time(), target))

    async def say(self, *numbers: int) -> None:
        """Let purges come, and be dealt with."""
        for number in numbers:
            self.fake.put.send_nowait(Message("purge:p", message(number)))
        await wait_all_tasks_blocked()

    async def gap(self) -> None:
        """Let a gap come, and be dealt with."""
        self.fake.put.send_nowait(Gap("n", "lost"))
        await wait_all_tasks_blocked()

    def take(self) -> list[str]:
        """Return the keys that were asked for since the last time, a star for everything."""
        found = [target.names[0] if target.names else "*" for _, target in self.asked]
        self.asked.clear()
        return found

    @property
    def reports(self) -> list[Report]:
        """What was reported."""
        assert {channel for _, channel, _ in self.fake.published} <= {"purge-report:p"}
        return [decode(Report, data) for _, _, data in self.fake.published]

    @property
    def outcomes(self) -> list[tuple[str, Outcome, str]]:
        """The same in short."""
        return [(each.id, each.outcome, each.code) for each in self.reports]


def message(number: int, target: Target | None = None) -> bytes:
    """Return a purge, of a key by default."""
    target = target or by_key(f"k{number}")
    return encode_record(Purge(id=str(number), kind=target.kind, names=target.names, origin="o"))


@asynccontextmanager
async def running(settle: float = 0.0, code: str = "") -> AsyncIterator[Scene]:
    """Run an edge; if its cache works, until nothing is owed any more."""
    scene = Scene(settle, code=code)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.edge.run, scene.fake.client)
        await wait_all_tasks_blocked()
        if not code:
            await trio.sleep(settle + INTERVAL + 1)
            assert scene.take() == ["*"] * (2 if settle else 1)
        yield scene
        nursery.cancel_scope.cancel()
