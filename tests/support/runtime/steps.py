"""Does something at exactly the n-th step of what runs in a nursery: every point can be tried.

A step is what runs from one checkpoint to the next.
"""

import itertools
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import trio
from trio.lowlevel import Task

Find = Callable[[Task], trio.Nursery | None]
"""Looks at a task that has made a step; returns the nursery whose steps are to be counted, if known."""

Act = Callable[[trio.Nursery], None]


class AtStep(trio.abc.Instrument):
    """Calls `act` when the task that opened the nursery and those within made so many steps."""

    def __init__(self, number: int, find: Find, act: Act) -> None:
        self.acted = False
        """Whether there were so many steps."""
        self._left = number
        self._find = find
        self._act = act
        self._nursery: trio.Nursery | None = None

    def after_task_step(self, task: Task) -> None:
        """Count the step, if it is one of those."""
        if self.acted:
            return
        if self._nursery is None:
            self._nursery = self._find(task)
        if self._nursery is not None and _is_below(task, self._nursery.parent_task):
            self._left -= 1
            if self._left == 0:
                self.acted = True
                self._act(self._nursery)


@contextmanager
def at_step(number: int, find: Find, act: Act) -> Iterator[AtStep]:
    """Watch the steps while the block runs. An error in `find` or `act` fails the test."""
    instrument = AtStep(number, find, act)
    trio.lowlevel.add_instrument(instrument)
    try:
        yield instrument
    finally:
        trio.lowlevel.remove_instrument(instrument)  # trio has removed one that raised: KeyError


def cancel(nursery: trio.Nursery) -> None:
    """Cancel all that runs in a nursery."""
    nursery.cancel_scope.cancel()


async def at_every_step(attempt: Callable[[int], Awaitable[bool]]) -> int:
    """Run attempts 1, 2... until one tells that it made fewer steps; return how many there are."""
    for number in itertools.count(1):
        if not await attempt(number):
            return number - 1
    raise AssertionError


def _is_below(task: Task, root: Task) -> bool:
    while task is not root:
        if task.parent_nursery is None:
            return False
        task = task.parent_nursery.parent_task
    return True
