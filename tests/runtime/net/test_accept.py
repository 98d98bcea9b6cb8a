"""How a door takes its connections."""

from functools import partial

import trio
from trio.testing import MockClock

from fanout.runtime.net.accept import accept_clients
from fanout.runtime.net.transport import Transport
from fanout.testing.network import MemoryNetwork
from fanout.values.names import Endpoint

HERE = Endpoint("here", 1)


async def test_a_crowd_is_let_in_one_after_the_other(autojump_clock: MockClock) -> None:
    """All of them, at the rate; refusing one counts as well."""
    network = MemoryNetwork()
    listener = await network.bind(HERE)
    listener.listen()
    came: list[float] = []

    async def handle(_transport: Transport) -> None:
        came.append(trio.current_time())
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        serve = partial(accept_clients, listener, handle, clients_max=60, refusal=b"full")
        nursery.start_soon(partial(serve, connects_per_second_max=10))
        began = trio.current_time()
        crowd = [await network.connect(HERE) for _ in range(100)]
        await trio.sleep(5.85)
        assert len(came) == 60
        refusals = [await transport.receive_some(100) for transport in crowd[60:]]
        assert refusals == [b"full"] * 40
        assert 9.7 < trio.current_time() - began < 9.9
        nursery.cancel_scope.cancel()
