"""The agent beside a cache in any order of events: nothing is passed over, and all comes to an end."""

from collections.abc import Awaitable, Callable

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from fanout.adjunct import edge as edge_module
from fanout.adjunct.purge import Report, Target, by_key, decode, everything
from fanout.client import Gap, Message
from tests.support.adjunct.scene import AWAY, PENDING, REFUSED, SETTLE, Scene, message, running


@attrs.define
class Story:
    """What happened to an edge, and what its cache has to have done for it."""

    scene: Scene
    purges: dict[str, tuple[float, Target]] = attrs.field(factory=dict)
    owed: list[float] = attrs.field(factory=list)

    def applied_twice(self, target: Target, since: float) -> bool:
        """Whether the cache did it, and again after the answers on their way had come."""
        fit = [each for each in self.scene.done if each[2] in (target, everything())]
        return any(
            first >= since and second >= ended + SETTLE
            for first, ended, _ in fit
            for second, _, _ in fit
        )

    async def purge(self, number: int) -> None:
        """Let a purge come, perhaps not for the first time; each fifth is of everything."""
        target = by_key(f"k{number}") if number % 5 else everything()
        self.purges.setdefault(str(number), (trio.current_time(), target))
        self.scene.fake.put.send_nowait(Message("purge:p", message(number, target)))

    async def gap(self, _number: int) -> None:
        """Let a gap come."""
        self.owed.append(trio.current_time())
        self.scene.fake.put.send_nowait(Gap("n", "lost"))

    async def wait(self, number: int) -> None:
        """Let time pass."""
        await trio.sleep(number**2 / 20)

    async def become(self, number: int) -> None:
        """Let the cache work, or fail in one of two ways, at some speed."""
        self.scene.code = ("", "", AWAY, REFUSED)[number % 4]
        self.scene.seconds = number % 3 / 2

    async def end(self) -> None:
        """Once the cache works all comes to an end, and nothing is passed over."""
        await self.become(0)
        await trio.sleep(200)
        ends = {each.id: each for each in self.scene.reports if each.outcome is not PENDING}
        assert ends.keys() == self.purges.keys()
        for data in (data for _, _, data in self.scene.fake.published):
            each = decode(Report, data)
            assert each.outcome is PENDING or each == ends[each.id]
        for id_, (since, target) in self.purges.items():
            owing = ends[id_].code in (AWAY, "overflow")
            assert ends[id_].code == REFUSED or self.applied_twice(
                everything() if owing else target, since
            )
        assert all(self.applied_twice(everything(), since) for since in self.owed)


Step = Callable[[Story, int], Awaitable[None]]
STEPS: list[Step] = [Story.purge, Story.gap, Story.wait, Story.become]


@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 19)), max_size=40))
def test_whatever_happens_nothing_is_passed_over(steps: list[tuple[Step, int]]) -> None:
    """In any order, against what the cache really did."""

    async def main() -> None:
        async with running(SETTLE) as scene:
            story = Story(scene, owed=[0.0])
            for step, number in steps:
                await step(story, number)
            await story.end()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edge_module, "WAITING_MAX", 8)
        patch.setattr(edge_module, "REQUESTS_MAX", 2)
        trio.run(main, clock=MockClock(autojump_threshold=0))
