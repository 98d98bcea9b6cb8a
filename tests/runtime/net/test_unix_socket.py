"""Unix sockets of the doors: for their owner only, and never in place of something else."""

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from fanout.runtime.net.transport import SocketNetwork
from fanout.values.names import Endpoint


@pytest.fixture
def umask() -> Iterator[int]:
    """Make new files accessible to all users, as a careless process does."""
    before = os.umask(0)
    yield 0
    os.umask(before)


async def test_only_the_owner_may_connect(tmp_path: Path, umask: int) -> None:
    """From the first moment, whatever the umask, which is left as it was."""
    path = tmp_path / "s"
    modes: list[int] = []
    bind = socket.socket.bind

    class Watched(socket.socket):
        def bind(self, address: object) -> None:
            bind(self, address)  # type: ignore[arg-type]
            modes.append(stat.S_IMODE(path.stat().st_mode))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fanout.runtime.net.transport.stdlib_socket.socket", Watched)
        listener = await SocketNetwork().bind(Endpoint(path=str(path)))
    assert modes == [0o600]
    (tmp_path / "other").touch()
    assert stat.S_IMODE((tmp_path / "other").stat().st_mode) == 0o666
    listener.close()
    assert not path.exists()


async def test_what_a_dead_process_left_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    """A socket with a listener, and a file that is no socket, stay as they are."""
    path = tmp_path / "s"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    network, endpoint = SocketNetwork(), Endpoint(path=str(path))
    listener = await network.bind(endpoint)
    listener.listen()
    with pytest.raises(OSError, match="in use"):
        await network.bind(endpoint)
    assert path.is_socket()
    listener.close()
    path.write_text("precious")
    with pytest.raises(OSError, match="not a socket"):
        await network.bind(endpoint)
    assert path.read_text() == "precious"
