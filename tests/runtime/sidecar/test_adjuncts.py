"""Adjuncts in a sidecar: they read and write discovery, and their failures harm nothing else."""

import attrs
import pytest
import structlog
import trio
from trio.testing import MockClock

from fanout.config import FleetConfig
from fanout.errors import FanoutError, RegistryUnavailable
from fanout.runtime.discovery.watch import open_watch
from fanout.runtime.sidecar.adjuncts import Adjunct, Sidecar
from tests.support.notes import NOTES, Note
from tests.support.runtime.fleet import memory_fleet, until


def note(writer: str, version: int = 1, *, gone: bool = False) -> Note:
    """Return a note of the fleet in memory."""
    return Note(cluster="default", id=writer, version=version, gone=gone)


class Writer(Adjunct):
    """Writes a note when the sidecar is ready, and takes it back."""

    name = "writer"
    kinds = (NOTES,)

    def __init__(self) -> None:
        self.sidecar: Sidecar | None = None
        self.said: list[str] = []

    async def run(self, sidecar: Sidecar) -> None:
        """Write."""
        self.sidecar = sidecar
        await sidecar.ready.wait()
        await sidecar.registry.write(note(sidecar.config.id))

    async def drain(self, sidecar: Sidecar) -> None:
        """Take a while."""
        await sidecar.registry.write(note(sidecar.config.id, 2))
        await trio.sleep(5)
        self.said.append("drained")

    async def say_goodbye(self, sidecar: Sidecar) -> None:
        """Take it back."""
        self.said.append("goodbye")
        await sidecar.registry.write(note(sidecar.config.id, 3, gone=True))

    def sees(self) -> set[Note]:
        """Return the records that an adjunct sees."""
        return set(self.sidecar.watch.members(NOTES).values()) if self.sidecar else set()


async def test_adjuncts_see_what_others_write_until_they_take_it_back(
    autojump_clock: MockClock,
) -> None:
    """A sidecar that is asked to stop serves until its adjuncts have drained, then they leave."""
    first, second = Writer(), Writer()
    async with memory_fleet() as fleet:
        one = await fleet.sidecar("sidecar-3", adjuncts=(first,))
        await fleet.sidecar("sidecar-4", adjuncts=(second,))
        both = {note("sidecar-3"), note("sidecar-4")}
        await until(lambda: first.sees() == second.sees() == both)

        one.stop.requested.set()
        await until(lambda: note("sidecar-3", 2) in second.sees())
        assert first.said == []
        client = await fleet.client("sidecar-3")
        await client.subscribed(b"still here")

        assert await one.leave() == 0
        assert first.said == ["drained", "goodbye"]
        await until(lambda: second.sees() == {note("sidecar-4")})


async def test_a_silent_writer_expires(autojump_clock: MockClock) -> None:
    """One that crashes cannot say goodbye, and is gone by its lease all the same."""
    writer, reader = Writer(), Writer()
    async with memory_fleet() as fleet:
        crashing = await fleet.sidecar("sidecar-3", adjuncts=(writer,))
        await until(lambda: writer.sees() == {note("sidecar-3")})
        crashing.scope.cancel()
        await fleet.sidecar("sidecar-4", adjuncts=(reader,))

        await until(lambda: reader.sees() == {note("sidecar-4")})


@pytest.mark.parametrize("error", [ValueError("bug"), FanoutError("peer")])
async def test_an_adjunct_that_fails_is_begun_again_and_harms_nobody(
    error: Exception, autojump_clock: MockClock
) -> None:
    """Whatever it raises, wherever: messages go on, and the sidecar leaves in order."""

    @attrs.define
    class Broken(Adjunct):
        name = "broken"
        runs: int = 0

        async def run(self, _sidecar: Sidecar) -> None:
            self.runs += 1
            raise error

        async def drain(self, _sidecar: Sidecar) -> None:
            raise error

        async def say_goodbye(self, _sidecar: Sidecar) -> None:
            raise error

    broken, fine = Broken(), Writer()
    with structlog.testing.capture_logs() as logs:
        async with memory_fleet() as fleet:
            sidecar = await fleet.sidecar("sidecar-3", adjuncts=(broken, fine))
            await until(lambda: broken.runs > 3)
            client = await fleet.client("sidecar-3")
            await client.subscribed(b"news")
            await client.publish(b"news", b"hello")
            await until(lambda: client.received == [(b"news", b"hello")])

            assert await sidecar.leave() == 0
    assert fine.said == ["drained", "goodbye"]
    assert sum(log["event"] == "adjunct_failed" for log in logs) == broken.runs + 2


async def test_a_process_without_a_sidecar_reads_and_writes_too(autojump_clock: MockClock) -> None:
    """And gets an error when no discovery can be read."""
    reader = Writer()
    async with memory_fleet() as fleet:
        await fleet.sidecar("sidecar-3", adjuncts=(reader,))
        config = FleetConfig(discovery=fleet.addresses())
        async with open_watch(config, (NOTES,), world=fleet.world) as (registry, watch):
            assert set(watch.members(NOTES).values()) == {note("sidecar-3")}
            assert await registry.write(note("visitor")) == 1
            await until(lambda: note("visitor") in reader.sees())

            fleet.kill(fleet.discovery[0])
            await until(lambda: watch.frozen)
            await trio.sleep(100)
            assert note("visitor") in watch.members(NOTES).values()
            assert watch.readable_seconds == 0

            await fleet.restart(fleet.discovery[0])
            await until(lambda: not watch.frozen)
            assert watch.readable_seconds < 50  # not since the start
        fleet.kill(fleet.discovery[0])
        with pytest.raises(RegistryUnavailable, match="discovery-1:6379"):
            async with open_watch(config, (NOTES,), world=fleet.world):
                raise AssertionError
