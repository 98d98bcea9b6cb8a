"""A sidecar's client without a sidecar: what is published is kept, what comes is put in."""

from collections.abc import Awaitable, Callable
from typing import Self, cast

import trio

from fanout.client import Client, Event


class FakeClient:
    """The part of `fanout.client.Client` that purges use."""

    def __init__(self) -> None:
        self.trouble = ""
        self.subscribed: list[str] = []
        self.published: list[tuple[float, str, bytes]] = []
        self.on_publish: Callable[[str, bytes], Awaitable[int]] = self._one
        self.put, self._events = trio.open_memory_channel[Event](1000)

    async def subscribe(self, *channels: str) -> tuple[str, ...]:
        """Keep the wish."""
        await trio.lowlevel.checkpoint()
        self.subscribed += channels
        return ()

    async def publish(self, channel: str, data: bytes) -> int:
        """Keep the message and answer as the test wants."""
        await trio.lowlevel.checkpoint()
        self.published.append((trio.current_time(), channel, data))
        return await self.on_publish(channel, data)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        return await self._events.receive()

    @property
    def client(self) -> Client:
        """This, as what it stands for."""
        return cast("Client", self)

    async def _one(self, _channel: str, _data: bytes) -> int:
        return 1
