"""A link takes runs of messages at once, and nothing is different for that but the speed."""

from functools import partial
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from fanout.runtime.redis.link import Link
from fanout.testing.network import MemoryNetwork
from fanout.values.names import Endpoint
from fanout.wire.redis import runs as runs_module
from fanout.wire.redis.client import pack
from fanout.wire.redis.runs import RunReader, leading_run
from fanout.wire.resp.replies import messages3, pmessages3
from tests.support.runtime.clients import CHANNELS, two_clients
from tests.support.runtime.fleet import memory_fleet, until

REPLIES = [b"+OK\r\n", b"*2\r\n$1\r\na\r\n$1\r\nb\r\n", b"$12\r\n>3\r\n$7\r\nmess\r\n"]


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[bytes], int]:
    """Draw what a node sends, cut anywhere, and how many replies are in it."""
    parts: list[bytes] = []
    replies = 0
    for _ in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from("mmmpr"))
        times = draw(st.integers(1, 4))
        payload = draw(st.sampled_from([b"", b"x", messages3(b"c", [b"x"]), b">3\r\n"]))
        channel = draw(st.sampled_from([b"c", b"d", messages3(b"c", [b"x"])[:-2]]))
        if kind == "m":
            parts.append(messages3(channel, [payload]) * times)
        elif kind == "p":
            parts.append(pmessages3(b"*", [(channel, payload)]) * times)
        else:
            parts.append(draw(st.sampled_from(REPLIES)))
            replies += 1
    data = b"".join(parts)
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=5)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)], replies


async def heard(chunks: list[bytes], replies: int, *, runs: bool) -> list[Any]:
    """Return all that a link makes of these bytes, in order."""
    network = MemoryNetwork()
    listener = await network.bind(Endpoint("node", 1))
    listener.listen()
    link = Link(await network.connect(Endpoint("node", 1)))
    found: list[Any] = []
    link.on_pushes = found.extend
    if runs:
        link.runs = RunReader(
            lambda channel, payloads: found.extend([b"message", channel, each] for each in payloads)
        )
    for _ in range(replies):
        link.submit(pack(b"X"), found.append)
    for chunk in chunks:
        link._take(chunk)
    return found


MESSAGES = messages3(b"c", [b"x"] * 3)
WITHIN = messages3(b"d", [MESSAGES])
START = WITHIN.index(MESSAGES)


@given(streams())
@example(([WITHIN[:START], WITHIN[START:]], 0))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_same_is_heard_with_runs_and_without(
    monkeypatch: pytest.MonkeyPatch, stream: tuple[list[bytes], int]
) -> None:
    """However the bytes are cut, also within a reply and within what looks like a message."""
    monkeypatch.setattr(runs_module, "RUN_BYTES_MIN", 1)
    chunks, replies = stream

    plain = trio.run(partial(heard, chunks, replies, runs=False))
    assert trio.run(partial(heard, chunks, replies, runs=True)) == plain


async def test_runs_pass_a_sidecar_like_any_messages(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """Those that clients want, and those that only came because they were just given up."""
    runs: list[int] = []

    def counted(data: bytes, start: int) -> Any:
        if (run := leading_run(data, start)) is not None:
            runs.append(len(run.payloads))
        return run

    monkeypatch.setattr(runs_module, "RUN_BYTES_MIN", 1)
    monkeypatch.setattr(runs_module, "leading_run", counted)
    network = MemoryNetwork(delay_seconds=lambda: 0.1)
    async with memory_fleet(network=network) as fleet:
        publisher, subscriber = await two_clients(fleet)
        sent = [b"%03d" % number for number in range(200)]
        for payload in sent:
            publisher.publish_soon(CHANNELS[0], payload)
        await until(lambda: len(subscriber.received) >= len(sent))
        assert subscriber.received == [(CHANNELS[0], payload) for payload in sent]
        assert sum(runs) > len(sent) / 2

        for payload in sent:
            publisher.publish_soon(CHANNELS[0], payload)
        subscriber.link.submit_subscription(b"UNSUBSCRIBE", CHANNELS)
        subscriber.link.flush()
        runs.clear()
        await trio.sleep(5)
        assert len(publisher.outcomes) == 2 * len(sent)
        assert sum(runs) > len(sent) / 2
        assert len(subscriber.received) == len(sent)
