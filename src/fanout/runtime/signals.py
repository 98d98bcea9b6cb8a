"""SIGTERM and SIGINT: the first means leave in order, the second means now."""

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio


@attrs.frozen
class Stop:
    """A request to stop, and a more urgent one."""

    requested: trio.Event = attrs.field(factory=trio.Event)
    now: trio.Event = attrs.field(factory=trio.Event)


@asynccontextmanager
async def open_signal_stop() -> AsyncIterator[Stop]:
    """Turn the signals of this process into a `Stop` while the block runs."""
    stop = Stop()

    async with trio.open_nursery() as nursery:
        await nursery.start(_listen, stop)
        yield stop
        nursery.cancel_scope.cancel()


async def _listen(stop: Stop, *, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for _ in signals:
            (stop.now if stop.requested.is_set() else stop.requested).set()
