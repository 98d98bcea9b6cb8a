"""A wake-up that can be repeated, for tasks that look again after every change."""

import trio


class Notice:
    """Wakes tasks when something has changed; any number of tasks may wait.

    Read `count` before you look at what may change, and pass it to `wait`: a change between the
    two is not missed, and needs no event to be replaced.

    Attributes:
        count: how often `set` was called.

    """

    __slots__ = ("_waiting", "count")

    def __init__(self) -> None:
        self._waiting = trio.lowlevel.ParkingLot()
        self.count = 0

    def set(self) -> None:
        """Wake all tasks that wait."""
        self.count += 1
        if self._waiting:
            self._waiting.unpark_all()

    async def wait(self, seen: int) -> None:
        """Return once `count` differs from `seen`, at once where it does already."""
        if self.count == seen:
            await self._waiting.park()
        else:
            await trio.lowlevel.checkpoint()
