"""The network in memory behaves as sockets do."""

from ipaddress import ip_network
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from fanout.runtime.net.transport import SocketNetwork
from fanout.testing.network import MemoryNetwork
from fanout.values.names import Endpoint
from tests.support.runtime.network import HERE, pair


async def try_within(host: str, *networks: str) -> str:
    """Listen on loopback, connect by the name of `host`; return why that failed, or nothing."""
    listener = await SocketNetwork().bind(Endpoint("127.0.0.1", 0))
    listener.listen()
    target = Endpoint(host, listener.endpoint.port)
    try:
        transport = await SocketNetwork([ip_network(each) for each in networks]).connect(target)
    except OSError as error:
        return error.strerror or str(error)
    else:
        transport.close()
        return ""
    finally:
        listener.close()


@pytest.mark.parametrize(
    ("host", "networks", "allowed"),
    [
        ("127.0.0.1", ["127.0.0.0/8"], True),
        ("127.0.0.1", ["10.0.0.0/8", "127.0.0.1/32"], True),
        ("localhost", ["127.0.0.0/8"], True),
        ("127.0.0.1", ["10.0.0.0/8"], False),
        ("localhost", ["10.0.0.0/8", "fd00::/8"], False),
        ("127.0.0.1", ["::/0"], False),
        ("::ffff:127.0.0.1", ["::/0"], False),
        ("::ffff:127.0.0.1", ["127.0.0.0/8"], True),
    ],
)
async def test_only_addresses_within_the_networks_are_connected_to(
    host: str, networks: list[str], *, allowed: bool
) -> None:
    """Whatever name leads there, and however the address is written."""
    refused = await try_within(host, *networks)
    assert refused == ("" if allowed else "outside the allowed networks")


async def test_a_unix_socket_is_in_no_network(tmp_path: Path) -> None:
    """Discovery must not have us speak to what listens on this machine's sockets."""
    endpoint = Endpoint(path=str(tmp_path / "s"))
    listener = await SocketNetwork().bind(endpoint)
    listener.listen()
    (await SocketNetwork().connect(endpoint)).close()
    with pytest.raises(OSError, match="outside the allowed networks"):
        await SocketNetwork([ip_network("0.0.0.0/0")]).connect(endpoint)
    listener.close()


async def test_why_the_last_allowed_address_failed_is_said() -> None:
    """Not that the others are not allowed."""
    listener = await SocketNetwork().bind(Endpoint("127.0.0.1", 0))
    with pytest.raises(OSError, match=r"(?i)refused|could not connect|all attempts"):
        await SocketNetwork([ip_network("127.0.0.0/8")]).connect(
            Endpoint("localhost", listener.endpoint.port)
        )
    listener.close()


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
