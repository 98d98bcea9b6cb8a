"""The network in memory behaves as sockets do."""

import pytest
import trio
from trio.testing import MockClock

from fanout.testing.network import MemoryNetwork
from fanout.testing.stream import MemoryTransport
from fanout.values import Endpoint

HERE = Endpoint("here", 1)


async def pair(network: MemoryNetwork) -> tuple[MemoryTransport, MemoryTransport]:
    """Return both ends of a connection."""
    listener = await network.bind(HERE)
    listener.listen()
    near = await network.connect(HERE)
    return near, await listener.accept()


async def test_bytes_arrive_in_order_after_their_delay(autojump_clock: MockClock) -> None:
    """Later bytes do not overtake earlier ones that are slower."""
    delays = iter((0.0, 5.0, 1.0))
    near, far = await pair(MemoryNetwork(delay_seconds=lambda: next(delays)))
    began = trio.current_time()
    near.send_nowait(b"ab")
    near.send_nowait(b"cd")

    assert await far.receive_some(3) == b"abc"
    assert await far.receive_some(3) == b"d"
    assert trio.current_time() - began == pytest.approx(5)


async def test_a_full_pipe_takes_no_more_until_it_is_read(autojump_clock: MockClock) -> None:
    """And its sender waits meanwhile."""
    near, far = await pair(MemoryNetwork(buffer_bytes_max=4))
    assert near.send_nowait(b"abcdef") == 4
    assert near.send_nowait(b"ef") == 0
    with trio.move_on_after(100) as scope:
        await near.wait_sendable()
    assert scope.cancelled_caught

    assert await far.receive_some(1) == b"a"
    await near.wait_sendable()
    assert near.send_nowait(b"ef") == 1


async def test_ends_and_resets_are_told_apart(autojump_clock: MockClock) -> None:
    """An end comes after the bytes sent before it; a reset takes them away."""
    network = MemoryNetwork()
    near, far = await pair(network)
    near.send_nowait(b"last")
    near.close()
    assert await far.receive_some(9) == b"last"
    assert await far.receive_some(9) == b""
    with pytest.raises(trio.BrokenResourceError):
        far.send_nowait(b"x")
    with pytest.raises(trio.ClosedResourceError):
        await near.receive_some(1)

    network.unbind(HERE)
    near, far = await pair(network)
    near.send_nowait(b"lost")
    network.reset(HERE)
    with pytest.raises(trio.BrokenResourceError):
        await far.receive_some(9)


async def test_a_frozen_endpoint_says_nothing_at_all(autojump_clock: MockClock) -> None:
    """Bytes and connections hang, and go on once it is thawed."""
    network = MemoryNetwork()
    near, far = await pair(network)
    network.freeze(HERE)
    near.send_nowait(b"held")
    for wait in (far.receive_some, near.receive_some):
        with trio.move_on_after(100) as scope:
            await wait(9)
        assert scope.cancelled_caught
    with trio.move_on_after(100) as scope:
        await network.connect(HERE)
    assert scope.cancelled_caught

    network.thaw(HERE)
    assert await far.receive_some(9) == b"held"
    await network.connect(HERE)


async def test_nobody_listening_is_refused_and_an_address_has_one_owner(
    autojump_clock: MockClock,
) -> None:
    """As with sockets, a bound address does not listen yet."""
    network = MemoryNetwork()
    with pytest.raises(ConnectionRefusedError):
        await network.connect(HERE)
    listener = await network.bind(HERE)
    with pytest.raises(ConnectionRefusedError):
        await network.connect(HERE)
    with pytest.raises(OSError, match="in use"):
        await network.bind(HERE)
    listener.close()
    await network.bind(HERE)
