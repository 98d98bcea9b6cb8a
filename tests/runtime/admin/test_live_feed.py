"""The live feed of a sidecar in a fleet in memory: what is shown, to whom, and what it costs."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import attrs
import pytest
import trio
from starlette.requests import Request
from starlette.routing import Route
from trio.testing import MockClock

from fanout.runtime.admin import live_feed
from fanout.runtime.admin.live_feed import LINGER_SECONDS, READERS_MAX
from fanout.runtime.sidecar.member_log import KEPT
from fanout.wire.redis import runs
from tests.support.runtime.fleet import LEASE, MemoryFleet, memory_fleet, until

Found = dict[str, Any]


def endpoint(fleet: MemoryFleet, path: str) -> Any:
    """Return what serves a path of sidecar-1."""
    (route,) = [
        each
        for each in fleet.admin["sidecar-1"].routes
        if isinstance(each, Route) and each.path == path
    ]
    return route.endpoint


async def look(fleet: MemoryFleet) -> Found:
    """Return what /live answers."""
    response = await endpoint(fleet, "/live")(Request({"type": "http", "headers": []}))
    return cast("Found", json.loads(response.body))


@attrs.define
class Reader:
    """A reader of /events."""

    last: str = ""
    slow: bool = False
    status: int = 0
    text: str = ""
    gone: trio.Event = attrs.field(factory=trio.Event)
    ended: trio.Event = attrs.field(factory=trio.Event)
    room: trio.Event = attrs.field(factory=trio.Event)
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    async def read(self, fleet: MemoryFleet) -> None:
        """Read until the answer ends, or this reader goes away."""
        headers = [(b"last-event-id", self.last.encode())] if self.last else []
        scope = {"type": "http", "method": "GET", "headers": headers}
        with self.scope:
            await endpoint(fleet, "/events")(scope, self._receive, self._send)
        self.ended.set()

    async def _receive(self) -> Found:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Found) -> None:
        self.status = message.get("status", self.status)
        self.text += message.get("body", b"").decode()
        if self.slow:
            await self.room.wait()

    def found(self, kind: str) -> list[Found]:
        """Return the events of one kind that were read."""
        blocks = [dict(line.split(": ", 1) for line in each.split("\n")) for each in self.blocks()]
        return [json.loads(each["data"]) for each in blocks if each.get("event") == kind]

    def blocks(self) -> list[str]:
        """Return the whole events that were read, as text."""
        return self.text.split("\n\n")[:-1]


@asynccontextmanager
async def watched(
    nodes: int = 2, sidecars: int = 1
) -> AsyncIterator[tuple[MemoryFleet, Callable[..., Reader]]]:
    """Run a fleet and give a way to start readers."""
    async with memory_fleet(nodes, sidecars) as fleet, trio.open_nursery() as nursery:

        def reader(**how: Any) -> Reader:
            made = Reader(**how)
            nursery.start_soon(made.read, fleet)
            return made

        yield fleet, reader
        nursery.cancel_scope.cancel()


async def test_messages_in_a_row_are_counted(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """Also those that are taken past the parser."""
    monkeypatch.setattr(runs, "RUN_BYTES_MIN", 1)
    async with watched(2, 2) as (fleet, _):
        subscriber, publisher = await fleet.client("sidecar-1"), await fleet.client("sidecar-2")
        await subscriber.subscribed(b"c")
        await look(fleet)
        for number in range(100):
            publisher.publish_soon(b"c", b"%03d" % number)
        await trio.sleep(1.5)
        live = await look(fleet)

    assert live["channels"][0]["name"] == "c"
    received = live["channels"][0]["received_per_second"]
    assert round(received * live["seconds"]) == len(subscriber.received) == 100


async def test_a_look_shows_the_fleet(autojump_clock: MockClock) -> None:
    """Nodes and their sidecars, doors, clients, and rates from the second look on."""
    async with watched(2, 2) as (fleet, _):
        subscriber, publisher = await fleet.client("sidecar-1"), await fleet.client("sidecar-1")
        await subscriber.subscribed(b"c")
        await subscriber.link.call("CLIENT", "SETNAME", "shop")
        first = await look(fleet)
        for _each in range(10):
            await publisher.publish(b"c", b"x")
        await trio.sleep(1.5)
        live = await look(fleet)

    assert (first["seconds"], first["channels"]) == (None, [])
    assert live["problems"] == []
    assert (live["ready"], live["reason"], live["sidecar"]) == (True, "", "sidecar-1")
    assert [(each["id"], each["state"]) for each in live["nodes"]] == [
        ("node-1", "active"), ("node-2", "active"),
    ]  # fmt: skip
    assert {(each["covered_by"], each["uncovered_by_count"]) for each in live["nodes"]} == {(2, 0)}
    assert [each["id"] for each in live["sidecars"]] == ["sidecar-1", "sidecar-2"]
    assert all(each["covered"] == ["node-1", "node-2"] for each in live["sidecars"])
    published = sum(each["published_per_second"] for each in live["nodes"])
    received = sum(each["received_per_second"] for each in live["nodes"])
    assert (published, received) == (10, 10)
    assert live["channels"] == [
        {"name": "c", "received_per_second": 10, "published_per_second": 10}
    ]
    clients = {each["id"]: each for each in live["consumers"]}
    assert [clients[1][key] for key in ("name", "subscriptions", "delivered_per_second")] == [
        "shop", 1, 10,
    ]  # fmt: skip
    assert clients[2]["published_per_second"] == 10
    assert [(each["name"], each["clients"]) for each in live["doors"]] == [("resp", 2), ("ws", 0)]
    assert live["publishes"]["executed"] == 10
    assert live["discovery"][0]["readable"] is True


async def test_what_is_named_by_others_is_shown_escaped_and_cut(autojump_clock: MockClock) -> None:
    """For readers that are terminals."""
    async with watched() as (fleet, _):
        client = await fleet.client("sidecar-1")
        await look(fleet)
        await client.publish(b"\x1b[2J\xff" + b"x" * 500, b"")
        await trio.sleep(1.5)
        (channel,) = (await look(fleet))["channels"]

    assert channel["name"] == r"\x1b[2J\xff" + "x" * 59


async def test_a_node_that_falls_silent_is_told_as_it_happens(autojump_clock: MockClock) -> None:
    """To readers at once, as a problem in the next looks, and in the words of the log."""
    async with watched() as (fleet, reader):
        reading = reader()
        await until(lambda: bool(reading.found("snapshot")))
        assert reading.blocks()[0] == "retry: 1000"
        fleet.kill(fleet.redis["node-2"])
        await until(
            lambda: any(each["event"] == "member_left" for each in reading.found("membership")),
            10 * LEASE,
        )
        await trio.sleep(1.5)
        told = [tuple(each.values())[3:] for each in reading.found("membership")]

    assert told[:2] == [
        ("member_joined", "node-1", "active"), ("member_joined", "node-2", "active"),
    ]  # fmt: skip
    begin = told.index(("messages_missed", "node-2", "lost"))
    assert told[begin:] == [
        ("messages_missed", "node-2", "lost"), ("node_deaf", "node-2", "active"),
        ("member_left", "node-2", "expired"), ("messages_missed", "node-2", "left"),
    ]  # fmt: skip
    looks = reading.found("snapshot")
    worst = [each["problems"][0]["text"] for each in looks if each["problems"]]
    assert "This sidecar is not ready: not subscribed on node-2" in worst
    assert worst[-1].startswith("node-2 fell silent and was removed ")
    assert [each["id"] for each in looks[-1]["nodes"]] == ["node-1"]
    assert [each["number"] for each in looks] == list(range(1, len(looks) + 1))


async def test_who_comes_again_is_told_what_it_missed(autojump_clock: MockClock) -> None:
    """By the number of the last event, which counts in this incarnation of the sidecar only."""
    async with watched() as (_, reader):
        first = reader()
        await until(lambda: bool(first.found("snapshot")))
        first.gone.set()
        await first.ended.wait()
        ids = [each[4:].split("\n")[0] for each in first.blocks() if each.startswith("id: ")]
        again, other = reader(last=ids[1]), reader(last="f00-1")
        await until(lambda: bool(again.found("snapshot") and other.found("snapshot")))

    def numbers(reading: Reader) -> list[int]:
        return [each["number"] for each in reading.found("membership")]

    assert numbers(first) == list(range(1, len(ids) + 1))
    assert numbers(again) == numbers(first)[2:]
    assert numbers(other) == numbers(first)


async def test_nothing_is_counted_while_nobody_looks(autojump_clock: MockClock) -> None:
    """Looks go on for a while after the last reader, then they end, with all that they cost."""
    async with watched() as (fleet, reader):
        fanout = feed_of(fleet)._snapshots._shown.fanout
        assert (fanout.traffic, fanout._dispatch.counting) == (None, False)
        reading = reader()
        await until(lambda: bool(reading.found("snapshot")))
        assert fanout.traffic is not None
        assert fanout._dispatch.counting
        await trio.sleep(2 * LINGER_SECONDS)
        assert fanout.traffic is not None
        reading.gone.set()
        await reading.ended.wait()
        await trio.sleep(2)
        assert (fanout.traffic, fanout._dispatch.counting) == (None, False)

        assert (await look(fleet))["seconds"] is None
        await trio.sleep(LINGER_SECONDS / 2)
        assert (await look(fleet))["seconds"] == 1
        await trio.sleep(LINGER_SECONDS + 2)
        assert fanout.traffic is None


def feed_of(fleet: MemoryFleet) -> Any:
    """Return the feed of sidecar-1."""
    return endpoint(fleet, "/live").__self__


async def test_a_slow_reader_misses_looks_and_holds_nobody(autojump_clock: MockClock) -> None:
    """It gets the latest look when it has room, and the events that are remembered, rare ones long."""
    async with watched() as (fleet, reader):
        slow, fast = reader(slow=True), reader()
        log = feed_of(fleet)._member_log
        await until(lambda: len(fast.found("snapshot")) == 3)
        for number in range(2 * KEPT):
            log.debug("messages_missed", node=f"node-{number}", reason="lost")
            await trio.sleep(0.001)
        await until(lambda: len(fast.found("snapshot")) == 10)
        assert slow.found("snapshot") == []
        slow.slow = False
        slow.room.set()
        await until(lambda: len(fast.found("snapshot")) == 11)

    assert [each["number"] for each in slow.found("snapshot")] == [10, 11]
    told = [each["event"] for each in slow.found("membership")]
    assert told.count("messages_missed") == KEPT
    assert told[:2] == ["member_joined", "member_joined"]
    last = [each.found("membership")[-1]["number"] for each in (slow, fast)]
    assert last[0] == last[1] >= 2 * KEPT


async def test_readers_are_few(autojump_clock: MockClock) -> None:
    """One too many is refused with a reason, until another one leaves."""
    async with watched() as (_, reader):
        readers = [reader() for _ in range(READERS_MAX)]
        await until(lambda: all(each.found("snapshot") for each in readers))
        refused = reader()
        await refused.ended.wait()
        readers[0].gone.set()
        await readers[0].ended.wait()
        taken = reader()
        await until(lambda: bool(taken.found("snapshot")))

    assert refused.status == 503
    assert "close one" in json.loads(refused.text)["error"]


async def test_the_feed_ends_when_the_sidecar_leaves(autojump_clock: MockClock) -> None:
    """Its readers get the end of the feed, and the connection closes."""
    async with watched() as (fleet, reader):
        reading = reader()
        await until(lambda: bool(reading.found("snapshot")))
        service = fleet.admin["sidecar-1"]
        assert service.readiness().unready == ""
        await feed_of(fleet).drain(None)
        await reading.ended.wait()

    assert reading.found("closing") == [{"reason": "shutdown"}]


async def test_a_bug_in_a_look_does_not_end_the_sidecar(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is logged, and looks begin again."""
    async with watched() as (fleet, reader):

        def fail(_live: object) -> list[object]:
            raise RuntimeError("a bug")

        with monkeypatch.context() as patch:
            patch.setattr(live_feed, "problems", fail)
            reading = reader()
            await trio.sleep(5)
            assert reading.found("snapshot") == []
        await until(lambda: bool(reading.found("snapshot")), 120)
        client = await fleet.client("sidecar-1")
        assert await client.publish(b"c", b"x") == 0
