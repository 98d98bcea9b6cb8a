"""Calls and connections of the client for services may be cancelled at any of their steps."""

import json
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.lowlevel import Task
from trio_websocket import WebSocketConnection

from fanout.client import Client, Event, Gap, Message
from fanout.errors import RequestFailed
from tests.support.bridge_schema import sent
from tests.support.client import HELLO, client_of, next_of, say
from tests.support.runtime.steps import at_every_step, at_step, cancel


class Sidecar:
    """Answers each publish with the number that is its payload, and delivers it first."""

    def __init__(self) -> None:
        self.published: list[bytes] = []
        self.connections = 0

    async def serve(self, socket: WebSocketConnection) -> None:
        """Treat one connection."""
        self.connections += 1
        try:
            await say(socket, HELLO)
            while True:
                await self._answer(socket, await socket.get_message())
        finally:
            self.connections -= 1

    async def _answer(self, socket: WebSocketConnection, request: str | bytes) -> None:
        if isinstance(request, bytes):
            payload = request[8:]
            assert request[5:8] == b"\0\x01c"
            self.published.append(payload)
            await say(socket, {"type": "message", "channel": "c", "data": payload.decode()})
            number, more = int.from_bytes(request[1:5]), {"receivers": int(payload)}
        else:
            number, more = sent_id(request), {}
        await say(socket, {"type": "ok", "id": number, **more})


def sent_id(request: str) -> int:
    """Return the id of a request that fits the schema."""
    fields = json.loads(request)
    sent(fields)
    return int(fields["id"])


Call = Callable[[Client], Awaitable[None]]


async def aside(call: Call, client: Client) -> None:
    """Run a call in a nursery of its own; to be started as a task of its own."""
    async with trio.open_nursery():
        await call(client)


def within_aside(task: Task) -> trio.Nursery | None:
    """Find that nursery."""
    is_one = task.name.endswith(".aside") and task.child_nurseries
    return task.child_nurseries[0] if is_one else None


async def publish(client: Client, payload: bytes = b"1") -> None:
    """Publish a number and take it as the answer."""
    assert await client.publish("c", payload) == int(payload)


async def subscribe(client: Client) -> None:
    """Subscribe to more names than fit in one request."""
    assert await client.subscribe("a", "b", "c") == ()


@pytest.mark.parametrize("call", [publish, subscribe])
async def test_a_request_may_be_cancelled_at_any_step(call: Call) -> None:
    """The connection stays, and the next request gets its own answer."""
    sidecar = Sidecar()
    async with client_of(sidecar.serve) as client:
        await publish(client)

        async def attempt(number: int) -> bool:
            with at_step(number, within_aside, cancel) as step:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(aside, call, client)
            await publish(client, b"%d" % (1000 + number))
            return step.acted

        assert await at_every_step(attempt) >= 2
        assert sidecar.connections == 1
    assert sidecar.connections == 0


async def test_waiting_for_a_message_may_be_cancelled_at_any_step() -> None:
    """No message is lost with the wait."""
    sidecar = Sidecar()
    taken: list[Event] = []

    async def take(client: Client) -> None:
        taken.append(await next_of(client))

    async with client_of(sidecar.serve) as client:

        async def attempt(number: int) -> bool:
            taken.clear()
            with at_step(number, within_aside, cancel) as step:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(aside, take, client)
                    await trio.testing.wait_all_tasks_blocked()
                    await publish(client, b"%d" % number)
                if step.acted and not taken:
                    await take(client)
            assert taken == [Message("c", b"%d" % number)]
            return step.acted

        assert await at_every_step(attempt) >= 2


def connection(task: Task) -> trio.Nursery | None:
    """Find what a connection runs in, once it takes requests."""
    return task.parent_nursery if task.name.endswith("Link._write") else None


def whole_client(task: Task) -> trio.Nursery | None:
    """Find what `open_client` runs in."""
    return task.parent_nursery if task.name.endswith("Client.run") else None


async def is_published(client: Client, payload: bytes) -> bool:
    """Publish and return whether the outcome is known."""
    try:
        await publish(client, payload)
    except RequestFailed:
        return False
    return True


async def test_a_connection_may_end_at_any_step() -> None:
    """Half a request is never followed by another one; what is unknown is said to be."""

    async def attempt(number: int) -> bool:
        sidecar = Sidecar()
        heard: list[Event] = []
        with at_step(number, connection, cancel) as step:
            async with client_of(sidecar.serve) as client:
                await client.subscribe("c")
                known = [await is_published(client, payload) for payload in (b"1", b"2", b"3")]
                last = b"3" if known[-1] else b"4"
                if last == b"4":
                    await publish(client, last)
                while (event := await next_of(client)) != Message("c", last):
                    heard.append(event)
        assert sidecar.connections == 0
        assert sidecar.published == sorted(set(sidecar.published))
        if Gap("", "reconnected") not in heard:
            assert heard == [Message("c", b"1"), Message("c", b"2")]
        return step.acted

    assert await at_every_step(attempt) > 10


async def test_a_client_may_be_left_at_any_step() -> None:
    """Without waiting for anything, and the connection ends with it."""

    async def attempt(number: int) -> bool:
        sidecar = Sidecar()
        with at_step(number, whole_client, cancel) as step:
            async with client_of(sidecar.serve) as client:
                await client.subscribe("c")
                await publish(client, b"1")
                await publish(client, b"2")
        assert sidecar.connections == 0
        assert sidecar.published == [b"1", b"2"][: len(sidecar.published)]
        return step.acted

    assert await at_every_step(attempt) > 50
