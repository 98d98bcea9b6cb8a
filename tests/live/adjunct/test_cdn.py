"""Purges through the installed commands: two Varnish servers with an edge each, one origin."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio

from tests.support.live.cdn import (
    HOST,
    MANY_KEYS,
    Origin,
    Varnish,
    open_origin,
    outcomes,
    purge,
    start_varnish,
    start_varnish_edge,
    wait_log,
)
from tests.support.live.fleet import Fleet, Process

pytestmark = pytest.mark.live

BOTH = {"edge-1": "applied", "edge-2": "applied"}
AT_ONCE = "--settle-seconds=0"
"""For tests in which nothing is on its way from the origin when a purge comes."""

VISITORS = 6
CHANGES = 3


@attrs.frozen
class Site:
    """An origin, two caches in front of it, and their edges, each with a sidecar of its own."""

    origin: Origin
    sidecars: list[Process]
    caches: list[Varnish]
    edges: list[Process]

    async def pages(self, path: str, host: str = HOST) -> list[str]:
        """Return a page as each cache serves it."""
        return [await cache.get(path, host) for cache in self.caches]


@asynccontextmanager
async def open_site(fleet: Fleet, folder: Path, *extra: str) -> AsyncIterator[Site]:
    """Start a site; `extra` are options of its edges."""
    fleet.add_discovery()
    fleet.node("node")
    sidecars = [fleet.sidecar(name) for name in ("one", "two")]
    async with open_origin() as origin:
        caches = [start_varnish(fleet, folder / f"v{n}", origin) for n in (1, 2)]
        edges = [
            start_varnish_edge(fleet, f"edge-{n}", sidecar, cache, *extra)
            for n, sidecar, cache in zip((1, 2), sidecars, caches, strict=True)
        ]
        yield Site(origin, sidecars, caches, edges)


async def test_a_purge_reaches_every_cache_and_removes_what_it_names(
    fleet: Fleet, tmp_path: Path
) -> None:
    """By URL, by key, everything; other pages stay. Missing edges are reported."""
    async with open_site(fleet, tmp_path, AT_ONCE) as site:
        one = site.sidecars[0]
        paths = ("/", "/a.b?x=1", "/aXb", "/c")
        old, new = ["version 1"] * 2, ["version 2"] * 2
        for path in paths:
            assert await site.pages(path) == old
        site.origin.version = 2
        for path in paths:
            assert await site.pages(path) == old

        code, answer = await purge(one, "url", f"https://{HOST.upper()}/a.b?x=1", "--wait", "30")
        assert (code, outcomes(answer)) == (0, BOTH)
        assert [await site.pages(path) for path in paths] == [old, new, old, old]

        code, answer = await purge(
            one, "key", "home", "none", "--wait", "30", "--expect", "edge-1", "--expect", "edge-2"
        )
        assert (code, outcomes(answer)) == (0, BOTH)
        assert [await site.pages(path) for path in paths] == [new, new, old, old]

        assert await site.pages("/many") == new
        site.origin.version = 3
        code, answer = await purge(one, "key", *MANY_KEYS[::-1], "--wait", "30")
        assert (code, outcomes(answer)) == (0, BOTH)
        assert await site.pages("/many") == ["version 3"] * 2
        site.origin.version = 2

        # The dot of a key is a dot: aXb is another page.
        code, answer = await purge(one, "key", "a.b", "--wait", "30")
        assert (code, outcomes(answer)) == (0, BOTH)
        assert [await site.pages(path) for path in paths] == [new, new, old, old]

        code, answer = await purge(one, "all", "--wait", "10", "--expect", "edge-3")
        assert (code, outcomes(answer)) == (1, {**BOTH, "edge-3": "silent"})
        assert [await site.pages(path) for path in paths] == [new] * 4

        # No page was fetched for a purge of others: all twice, and /, /a.b, and /many twice more.
        assert len(site.origin.asked) == 2 * (2 * len(paths) + 1 + 2 + 2)


async def test_under_load_nothing_stale_is_served_once_the_report_is_there(
    fleet: Fleet, tmp_path: Path
) -> None:
    """Visitors ask both caches all the time, and the origin is slow to answer."""
    async with open_site(fleet, tmp_path) as site:
        site.origin.delay_seconds = 0.05
        certain = 1  # no page begun from now on may be older
        seen: list[tuple[int, str]] = []  # what was certain when a page was asked for; the page
        done = False

        async def visit(cache: Varnish) -> None:
            while not done:
                for path in ("/x", "/y"):
                    before = certain
                    seen.append((before, await cache.get(path)))

        async with trio.open_nursery() as nursery:
            for number in range(VISITORS):
                nursery.start_soon(visit, site.caches[number % 2])
            for number in range(CHANGES):
                site.origin.version += 1
                what = [("key", "all-pages"), ("all",), ("url", *_urls("/x", "/y"))][number % 3]
                code, answer = await purge(site.sidecars[1], *what, "--wait", "40")
                assert (code, outcomes(answer)) == (0, BOTH)
                certain = site.origin.version
            done = True

        assert [(before, page) for before, page in seen if int(page.split()[1]) < before] == []
        assert {before for before, _ in seen} >= set(range(1, CHANGES + 1))
        assert len(seen) > len(site.origin.asked)


def _urls(*paths: str) -> list[str]:
    return [f"http://{HOST}{path}" for path in paths]


async def test_an_answer_on_its_way_from_the_origin_does_not_outlive_the_purge(
    fleet: Fleet, tmp_path: Path
) -> None:
    """It was made before the change and comes after the first purge, or even after the second."""
    async with open_site(fleet, tmp_path) as site:
        cache, edge = site.caches[0], site.edges[0]
        for event, *what in (
            ("cache_purged", "key", "slow"),
            ("cache_purged", "url", *_urls("/slow")),
            ("cache_purged", "all"),
            ("purge_done", "key", "slow"),
        ):
            site.origin.release = trio.Event()
            site.origin.asked.clear()
            before = site.origin.version
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cache.get, "/slow")
                await site.origin.wait_asked()
                site.origin.version += 1
                _, answer = await purge(site.sidecars[0], *what)
                await wait_log(edge, event, id=answer["id"])
                site.origin.release.set()
            await wait_log(edge, "purge_done", id=answer["id"])
            assert await cache.get("/slow") == f"version {before + 1}"
            await purge(site.sidecars[0], "all", "--wait", "30")


async def test_whoever_was_away_purges_what_it_may_have_missed(
    fleet: Fleet, tmp_path: Path
) -> None:
    """A sidecar that was killed, then an edge, and each is back. The other edge goes on."""
    async with open_site(fleet, tmp_path, AT_ONCE) as site:
        one, two = site.sidecars
        edge = site.edges[1]

        async def purge_without_two() -> None:
            site.origin.version += 1
            answer = await purge(one, "key", "home", "--wait", "30", "--expect", "edge-1")
            assert (answer[0], outcomes(answer[1])) == (0, {"edge-1": "applied"})
            new = site.origin.version
            assert await site.pages("/") == [f"version {new}", f"version {new - 1}"]

        assert await site.pages("/") == ["version 1"] * 2
        two.stop(signal.SIGKILL)
        await wait_log(edge, "sidecar_away")
        await purge_without_two()
        address = f"--ws=127.0.0.1:{two.port('ws')}"
        two = await trio.to_thread.run_sync(fleet.sidecar, "two-again", address)
        await wait_log(edge, "everything_purged", because="gap")
        assert await site.pages("/") == ["version 2"] * 2

        edge.stop(signal.SIGKILL)
        await purge_without_two()
        start = partial(start_varnish_edge, fleet, "edge-2", two, site.caches[1])
        await trio.to_thread.run_sync(start)
        assert await site.pages("/") == ["version 3"] * 2


async def test_a_cache_that_hangs_is_reported_and_emptied_when_it_is_back(
    fleet: Fleet, tmp_path: Path
) -> None:
    """Attempts are counted, the other edge and the fan-out do not notice."""
    extra = (
        AT_ONCE,
        "--cache-timeout-seconds=0.5",
        "--attempts-max=2",
        "--everything-interval-seconds=0.5",
    )
    async with open_site(fleet, tmp_path, *extra) as site:
        one, two = site.sidecars
        hung = site.caches[1]
        assert await site.pages("/") == ["version 1"] * 2
        worker = hung.worker_pid
        os.kill(worker, signal.SIGSTOP)
        try:
            site.origin.version = 2
            for _ in range(2):  # through the sidecar of the edge whose cache hangs
                code, answer = await purge(two, "key", "home", "--wait", "30")
                assert (code, outcomes(answer)) == (1, {"edge-1": "applied", "edge-2": "failed"})
                assert answer["edges"]["edge-2"]["code"] == "cache_unreachable"
                assert "timeout while waiting for the cache" in answer["edges"]["edge-2"]["message"]
        finally:
            os.kill(worker, signal.SIGCONT)
        await wait_log(site.edges[1], "everything_purged", because="cache_unreachable")
        assert await site.pages("/") == ["version 2"] * 2

        hung.process.stop()
        code, answer = await purge(one, "url", *_urls("/"), "--wait", "30")
        assert (code, outcomes(answer)) == (1, {"edge-1": "applied", "edge-2": "failed"})
        assert "cannot reach the cache" in answer["edges"]["edge-2"]["message"]
        again = start_varnish(fleet, tmp_path / "again", site.origin, hung.port)
        code, answer = await purge(one, "key", "home", "--wait", "30")
        assert (code, outcomes(answer)) == (0, BOTH)
        assert await again.get("/") == "version 2"
        assert site.edges[1].stop() == 0
