"""Notices: no change between a look and a wait is missed, and every waiting task is woken."""

import trio
import trio.testing

from fanout.notice import Notice


async def test_a_change_after_the_look_is_not_missed() -> None:
    """`wait` returns at once when the notice was set since the count was read."""
    notice = Notice()
    seen = notice.count
    notice.set()

    with trio.fail_after(1):
        await notice.wait(seen)
    assert notice.count == seen + 1


async def test_every_task_is_woken_once_for_each_change() -> None:
    """Tasks that wait again are not woken by a change that they have seen."""
    notice, woken = Notice(), []

    async def look(name: str) -> None:
        for _ in range(2):
            await notice.wait(notice.count)
            woken.append(name)

    async with trio.open_nursery() as nursery:
        for name in "ab":
            nursery.start_soon(look, name)
        for expected in (2, 4):
            await trio.testing.wait_all_tasks_blocked()
            notice.set()
            await trio.testing.wait_all_tasks_blocked()
            assert len(woken) == expected

    assert sorted(woken) == ["a", "a", "b", "b"]


async def test_a_task_that_gave_up_is_not_waited_for() -> None:
    """A cancelled wait leaves nothing behind."""
    notice = Notice()
    with trio.move_on_after(0):
        await notice.wait(notice.count)
    notice.set()

    with trio.fail_after(1):
        await notice.wait(0)
