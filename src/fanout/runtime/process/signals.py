"""Signals: the first SIGTERM or SIGINT stops gracefully, the second at once; SIGHUP reloads."""

import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import attrs
import trio

from fanout.notice import Notice
from fanout.runtime.process.supervisor import STOPPING, notify


@attrs.define
class Stop:
    """Requests to a service: stop gracefully, stop at once, reload files."""

    requested: trio.Event = attrs.field(factory=trio.Event)
    now: trio.Event = attrs.field(factory=trio.Event)
    _reload: Notice = attrs.field(factory=Notice, init=False)
    _reloads: int = attrs.field(default=0, init=False)  # handled by `wait_reload`

    def reload(self) -> None:
        """Request a reload of files."""
        self._reload.set()

    async def wait_reload(self) -> None:
        """Wait for a reload request; requests since the last wait count as one."""
        await self._reload.wait(self._reloads)
        self._reloads = self._reload.count


@asynccontextmanager
async def open_signal_stop() -> AsyncIterator[Stop]:
    """Return a `Stop` that follows the signals of this process while the block runs."""
    stop = Stop()

    async with trio.open_nursery() as nursery:
        await nursery.start(_listen, stop)
        yield stop
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def until_stopped(reload: Callable[[], None] = lambda: None) -> AsyncIterator[None]:
    """Cancel the block at the first SIGTERM or SIGINT; call `reload` at each SIGHUP."""
    async with open_signal_stop() as stop, trio.open_nursery() as nursery:

        async def cancel() -> None:
            await stop.requested.wait()
            nursery.cancel_scope.cancel()

        async def keep_reloading() -> None:
            while True:
                await stop.wait_reload()
                reload()

        nursery.start_soon(cancel)
        nursery.start_soon(keep_reloading)
        yield
        nursery.cancel_scope.cancel()


async def _listen(stop: Stop, *, task_status: trio.TaskStatus[None]) -> None:
    handled = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    with trio.open_signal_receiver(*handled) as signals:
        task_status.started()
        async for number in signals:
            if number == signal.SIGHUP:
                stop.reload()
            else:
                notify(STOPPING)
                (stop.now if stop.requested.is_set() else stop.requested).set()
