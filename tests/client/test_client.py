"""The client for services against sidecars that misbehave; real ones are in tests/live."""

import itertools
import json
from typing import Any

import pytest
import trio
from trio_websocket import WebSocketConnection, WebSocketRequest, serve_websocket

from fanout.client import Gap, Message, open_client
from fanout.errors import RequestFailed
from tests.support.bridge_schema import sent
from tests.support.client import HELLO, client_of, next_of, say


async def hear(socket: WebSocketConnection) -> Any:
    """Take a request that fits the schema."""
    request = json.loads(await socket.get_message())
    sent(request)
    return request


async def test_a_publish_that_went_down_with_its_connection_is_not_tried_again() -> None:
    """Its outcome is unknown."""
    frames: list[str | bytes] = []

    async def script(socket: WebSocketConnection) -> None:
        await say(socket, HELLO)
        frames.append(await socket.get_message())
        await socket.aclose(1012)

    async with client_of(script) as client:
        with pytest.raises(RequestFailed) as caught:
            await client.publish("c", b"\xff")
        assert caught.value.code == "outcome_unknown"
        assert frames == [b"\x02\0\0\0\0\0\x01c\xff"]


async def test_wishes_are_repeated_on_every_connection_in_batches() -> None:
    """A gap follows them: a client can then read its state again and misses nothing."""
    asked: list[Any] = []
    connections = itertools.count()

    async def script(socket: WebSocketConnection) -> None:
        number = next(connections)
        await say(socket, HELLO)
        for _ in range(2 if number == 0 else 3):
            request = await hear(socket)
            asked.append(request.get("channels") or request.get("patterns"))
            await say(socket, {"type": "ok", "id": request["id"], "degraded": [f"n{len(asked)}"]})
        if number == 0:
            await socket.aclose(1001)
        else:
            await say(socket, {"type": "message", "channel": "a", "data_base64": "/w=="})
            await say(socket, {"type": "gap", "node": "n", "reason": "lost"})
            request = await hear(socket)
            await say(socket, {"type": "ok", "id": request["id"]})
            await say(socket, {"type": "message", "pattern_base64": "/w==", "channel_base64": "/g==",
                               "data": "é"})  # fmt: skip
            await trio.sleep_forever()

    async with client_of(script) as client:
        assert await client.subscribe("a", "b", "c") == ("n1", "n2")
        assert await next_of(client) == Gap("", "reconnected")
        assert asked == [["a", "b"], ["c"], ["a", "b"], ["c"]]
        assert await client.psubscribe("p*") == ("n5",)
        assert await next_of(client) == Message("a", b"\xff")
        assert await next_of(client) == Gap("n", "lost")
        assert await client.psubscribe("q*") == ()
        assert await next_of(client) == Message("\udcfe", "é".encode(), "\udcff")


async def test_a_refused_subscribe_is_no_wish() -> None:
    """It raises with the code and is not asked for again."""
    connections = itertools.count()

    async def script(socket: WebSocketConnection) -> None:
        await say(socket, HELLO)
        request = await hear(socket)
        if next(connections) == 0:
            reply = {"type": "error", "id": request["id"], "code": "name_too_long", "message": "x"}
            await say(socket, reply)
            await socket.aclose()
        else:
            assert request["channels"] == ["good"]
            await say(socket, {"type": "ok", "id": request["id"]})
            await trio.sleep_forever()

    async with client_of(script) as client:
        with pytest.raises(RequestFailed, match="name_too_long") as caught:
            await client.subscribe("much too long")
        assert caught.value.code == "name_too_long"
        assert await client.subscribe("good") == ()


@pytest.mark.parametrize(
    "first",
    [
        "[]",
        "{}",
        "x",
        b"\xff",
        json.dumps({**HELLO, "protocol": 2}),
        '{"type":"hello"}',
        json.dumps({**HELLO, "limits": []}),
        json.dumps({**HELLO, "limits": {"names": 0}}),
        json.dumps({**HELLO, "limits": {"names": "1"}}),
    ],
)
async def test_what_is_no_sidecar_is_left_and_tried_again(first: str | bytes) -> None:
    """The client says what is wrong and goes on trying."""
    connections = itertools.count()

    async def script(socket: WebSocketConnection) -> None:
        if next(connections) < 2:
            await socket.send_message(first)
        else:
            await say(socket, HELLO)
            request = await hear(socket)
            await say(socket, {"type": "ok", "id": request["id"]})
        await trio.sleep_forever()

    async with client_of(script) as client:
        assert client.trouble
        await client.subscribe("c")
        assert not client.trouble


async def test_a_refused_handshake_is_said_and_tried_again() -> None:
    """As when a proxy stands in front, or the token is not there yet."""
    troubles: list[str] = []

    async def serve(request: WebSocketRequest) -> None:
        troubles.append(client.trouble)
        if len(troubles) < 3:
            await request.reject(403, body=b"not here")
            return
        socket = await request.accept(subprotocol="fanout.v1.json")
        await say(socket, HELLO)
        request_frame = await hear(socket)
        await say(socket, {"type": "ok", "id": request_frame["id"]})
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_websocket, serve, "127.0.0.1", 0, None)
        with trio.fail_after(30):
            async with open_client(f"ws://127.0.0.1:{server.port}/") as client:
                assert await client.subscribe("c") == ()
                assert troubles[1:] == ["refused with status 403: not here"] * 2
        nursery.cancel_scope.cancel()


async def test_whoever_reads_too_late_gets_a_gap_in_place_of_what_was_dropped() -> None:
    """The buffer is bounded; publishing goes on while no events are read."""

    async def script(socket: WebSocketConnection) -> None:
        await say(socket, HELLO)
        for number in range(5):
            await say(socket, {"type": "message", "channel": "c", "data": str(number)})
        while True:
            frame = await socket.get_message()
            assert isinstance(frame, bytes)
            number = int.from_bytes(frame[1:5])
            await say(socket, {"type": "message", "channel": "c", "data": "more"})
            await say(socket, {"type": "ok", "id": number, "receivers": 7})

    async with client_of(script, events_max=2) as client:
        assert await client.publish("c", "x") == 7
        assert [await next_of(client) for _ in range(3)] == [
            Message("c", b"0"),
            Message("c", b"1"),
            Gap("", "overflow"),
        ]
        assert await client.publish("c", "x") == 7
        assert await next_of(client) == Message("c", b"more")


async def test_what_is_too_large_is_refused_before_it_is_sent() -> None:
    """The sidecar would close the connection midway, and the outcome would be unknown."""

    async def script(socket: WebSocketConnection) -> None:
        await say(socket, HELLO)
        await socket.get_message()

    async with client_of(script) as client:
        with pytest.raises(RequestFailed, match="10 bytes exceeds the sidecar's limit of 9"):
            await client.publish("c", b"x" * 10)


async def test_every_connection_that_is_lost_is_told() -> None:
    """With the reason; what the listener raises ends the client."""
    told: list[str] = []

    def listen(why: str) -> None:
        told.append(why)
        if len(told) == 2:
            raise RequestFailed("enough", "no more")

    with pytest.RaisesGroup(pytest.RaisesExc(RequestFailed, match="enough")):
        async with open_client("ws://127.0.0.1:1/", told=listen):
            await trio.sleep(30)

    assert told == ["no connection: Error connecting to ('127.0.0.1', 1): Connection refused"] * 2
