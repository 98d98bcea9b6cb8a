"""Two ends of a connection in memory."""

from fanout.testing.network import MemoryNetwork
from fanout.testing.stream import MemoryTransport
from fanout.values.names import Endpoint

HERE = Endpoint("here", 1)


async def pair(network: MemoryNetwork) -> tuple[MemoryTransport, MemoryTransport]:
    """Return both ends of a connection."""
    listener = await network.bind(HERE)
    listener.listen()
    near = await network.connect(HERE)
    return near, await listener.accept()
