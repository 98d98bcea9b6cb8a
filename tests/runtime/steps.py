"""Does something at exactly the n-th step of a task, so that every point of a run can be tried.

A step is what runs from one checkpoint to the next. Steps of the tasks below count too: what a
task starts is cancelled with it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio
from trio.lowlevel import Task

Find = Callable[[Task], Task | None]
"""Looks at a task that has made a step; returns the one whose steps are to be counted, if known."""


class AtStep(trio.abc.Instrument):
    """Calls `act` with the task that `find` found, when its n-th step is over."""

    def __init__(self, number: int, find: Find, act: Callable[[Task], None]) -> None:
        self.acted = False
        """Whether there were so many steps."""
        self._left = number
        self._find = find
        self._act = act
        self._root: Task | None = None

    def after_task_step(self, task: Task) -> None:
        """Count the step, if it is one of those."""
        if self.acted:
            return
        if self._root is None:
            self._root = self._find(task)
        if self._root is not None and _is_below(task, self._root):
            self._left -= 1
            if self._left == 0:
                self.acted = True
                self._act(self._root)


@contextmanager
def at_step(number: int, find: Find, act: Callable[[Task], None]) -> Iterator[AtStep]:
    """Watch the steps while the block runs. An error in `find` or `act` fails the test."""
    instrument = AtStep(number, find, act)
    trio.lowlevel.add_instrument(instrument)
    try:
        yield instrument
    finally:
        trio.lowlevel.remove_instrument(instrument)  # trio has removed one that raised: KeyError


def cancel_below(task: Task) -> None:
    """Cancel what a task does within its outermost nursery, if it has one; what follows goes on."""
    for nursery in task.child_nurseries[:1]:
        nursery.cancel_scope.cancel()


def _is_below(task: Task, root: Task) -> bool:
    while task is not root:
        if task.parent_nursery is None:
            return False
        task = task.parent_nursery.parent_task
    return True
