"""Byte streams and how to get them; the seam between fanout and the operating system.

Everything above talks to `Transport`, `Listener` and `Network`, so the simulated fleet runs the
same code over `fanout.testing.network`. Writing without waiting is part of the interface: the hot
path hands bytes to the peer synchronously and only falls back to waiting when the peer is slow.
"""

import contextlib
import errno
import os
import socket as stdlib_socket
import stat
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Protocol

import trio

from fanout.values.names import Endpoint, IPNetwork

CONNECTION_ERRORS = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)
"""What any operation on a transport may raise because of the network or a close on our side."""

KEEPALIVE_IDLE_SECONDS = 5
KEEPALIVE_INTERVAL_SECONDS = 5
KEEPALIVE_COUNT = 3
USER_TIMEOUT_MILLISECONDS = 10_000
"""A peer whose host vanished is noticed within this; a stopped process is not, hence probes."""

LISTEN_BACKLOG = 1024


class Transport(Protocol):
    """One connected byte stream."""

    peer: str
    """Who is at the other end, for logs."""

    @property
    def unsent(self) -> bool:
        """Whether bytes that `send_nowait` took have yet to leave; then wait for sendable."""

    def send_nowait(self, data: bytes | memoryview) -> int:
        """Hand over as many bytes as are taken without waiting; 0 when none are.

        Raises:
            OSError, trio.BrokenResourceError, trio.ClosedResourceError: the stream ended.

        """

    async def wait_sendable(self) -> None:
        """Wait until `send_nowait` would take something. Raises as `send_nowait`."""

    async def receive_some(self, bytes_max: int) -> bytes:
        """Wait for bytes; empty at the end of the stream. Raises as `send_nowait`."""

    def close(self) -> None:
        """End the stream at once; who waits on it gets `trio.ClosedResourceError`. Idempotent."""


class Listener(Protocol):
    """A bound address. Connections are refused until `listen` was called."""

    @property
    def endpoint(self) -> Endpoint:
        """The address really bound: port 0 replaced by the port that was given."""

    def listen(self) -> None:
        """Begin to take connections."""

    async def accept(self) -> Transport:
        """Wait for the next connection. Raises OSError and trio.ClosedResourceError."""

    def close(self) -> None:
        """Stop listening; a Unix socket's file is removed. Idempotent."""


class Network(Protocol):
    """Where transports and listeners come from."""

    async def connect(self, endpoint: Endpoint, *, tls: bool = False) -> Transport:
        """Connect, and shake hands for TLS; the caller bounds the time. Raises OSError."""

    async def bind(self, endpoint: Endpoint) -> Listener:
        """Bind without listening yet. Raises OSError."""


class SocketTransport:
    """A `Transport` over a TCP or Unix socket."""

    unsent = False  # what the socket takes is the kernel's to send
    __slots__ = ("_socket", "peer")

    def __init__(self, socket: stdlib_socket.socket, peer: str) -> None:
        socket.setblocking(False)
        if socket.family in (stdlib_socket.AF_INET, stdlib_socket.AF_INET6):
            _tune(socket)
        self._socket = socket
        self.peer = peer

    def send_nowait(self, data: bytes | memoryview) -> int:
        """Hand over what the socket takes now."""
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0

    async def wait_sendable(self) -> None:
        """Wait for room in the socket's buffer."""
        await trio.lowlevel.wait_writable(self._socket)

    async def receive_some(self, bytes_max: int) -> bytes:
        """Wait for bytes.

        What has come was read before, almost always: so it waits first, and saves a call that
        fails. (trio's own `recv` tries first, and then lets everybody else run.)
        """
        while True:
            if self._socket.fileno() < 0:
                raise trio.ClosedResourceError
            await trio.lowlevel.wait_readable(self._socket)
            with contextlib.suppress(BlockingIOError):
                return self._socket.recv(bytes_max)

    def close(self) -> None:
        """Close the socket."""
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()


def _tune(socket: stdlib_socket.socket) -> None:
    """No delay for small writes, and dead hosts noticed within seconds."""
    set_option = socket.setsockopt
    set_option(stdlib_socket.IPPROTO_TCP, stdlib_socket.TCP_NODELAY, 1)
    set_option(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_KEEPALIVE, 1)
    # Not every system knows every option; keepalive alone is then as good as it gets there.
    for name, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_IDLE_SECONDS),
        ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL_SECONDS),
        ("TCP_KEEPCNT", KEEPALIVE_COUNT),
        ("TCP_USER_TIMEOUT", USER_TIMEOUT_MILLISECONDS),
    ):
        option = getattr(stdlib_socket, name, None)
        if option is not None:
            set_option(stdlib_socket.IPPROTO_TCP, option, value)


class SocketListener:
    """A `Listener` over a TCP or Unix socket."""

    def __init__(self, socket: stdlib_socket.socket, endpoint: Endpoint) -> None:
        socket.setblocking(False)
        self._socket = trio.socket.from_stdlib_socket(socket)
        self.endpoint = endpoint

    def listen(self) -> None:
        """Begin to take connections."""
        self._socket.listen(LISTEN_BACKLOG)

    async def accept(self) -> Transport:
        """Wait for the next connection."""
        socket, address = await self._socket.accept()
        plain = stdlib_socket.socket(fileno=socket.detach())
        if self.endpoint.path:
            return SocketTransport(plain, f"unix:{self.endpoint.path}")
        return SocketTransport(plain, str(Endpoint(host=address[0], port=address[1])))

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()
        if self.endpoint.path:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.endpoint.path)  # noqa: PTH108 - path is text from the user


class SocketNetwork:
    """The real network, or the part of it that is `within` some networks if any are given."""

    def __init__(self, within: Sequence[IPNetwork] = ()) -> None:
        self._within = tuple(within)

    async def connect(self, endpoint: Endpoint, *, tls: bool = False) -> Transport:
        """Connect by TCP or Unix socket; host names are looked up anew each time."""
        if tls:
            raise OSError(errno.EPROTONOSUPPORT, "TLS was not set up")
        stream: trio.SocketStream
        if self._within:
            stream = await self._connect_within(endpoint)
        elif endpoint.path:
            stream = await trio.open_unix_socket(endpoint.path)
        else:
            stream = await trio.open_tcp_stream(endpoint.host, endpoint.port)
        plain = stdlib_socket.socket(fileno=stream.socket.detach())
        return SocketTransport(plain, str(endpoint))

    async def _connect_within(self, endpoint: Endpoint) -> trio.SocketStream:
        """Connect to the first allowed address of a host that takes the connection.

        Addresses are looked at, not names: what a name means is up to whoever owns it.
        """
        refusal = OSError(errno.EACCES, "it is outside the allowed networks")
        if endpoint.path:
            raise refusal
        found = await trio.socket.getaddrinfo(
            endpoint.host, endpoint.port, type=stdlib_socket.SOCK_STREAM
        )
        for *_, address in found:
            host = str(address[0])
            if not any(_plain_ip(host) in network for network in self._within):
                continue
            try:
                return await trio.open_tcp_stream(host, endpoint.port)
            except OSError as error:
                refusal = error
        raise refusal

    async def bind(self, endpoint: Endpoint) -> Listener:
        """Bind a TCP or Unix address."""
        if endpoint.path:
            return SocketListener(_bind_unix(endpoint.path), endpoint)
        found = await trio.socket.getaddrinfo(
            endpoint.host, endpoint.port, type=stdlib_socket.SOCK_STREAM
        )
        family, kind, protocol, _, address = found[0]
        socket = stdlib_socket.socket(family, kind, protocol)
        try:
            socket.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_REUSEADDR, 1)
            socket.bind(address)
        except OSError:
            socket.close()
            raise
        return SocketListener(socket, Endpoint(host=endpoint.host, port=socket.getsockname()[1]))


def _plain_ip(text: str) -> IPv4Address | IPv6Address:
    """Return an address; one of IPv4 also where IPv6 stands for it (RFC 4291 section 2.5.5.2)."""
    address = ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _bind_unix(path: str) -> stdlib_socket.socket:
    """Bind a Unix socket only its owner may use, in place of one that nobody listens on.

    The mode is set by umask before the file exists: changing it afterwards leaves a moment in
    which anyone may connect (CVE-2023-45145).
    """
    socket = stdlib_socket.socket(stdlib_socket.AF_UNIX, stdlib_socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        _remove_stale_unix(path)
        socket.bind(path)
    except OSError:
        socket.close()
        raise
    finally:
        os.umask(mask)
    return socket


def _remove_stale_unix(path: str) -> None:
    """Remove a socket file left by a dead process. Raises OSError when it is in use."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise FileExistsError(errno.EEXIST, "exists and is not a socket", path)
    except FileNotFoundError:
        return
    with stdlib_socket.socket(stdlib_socket.AF_UNIX, stdlib_socket.SOCK_STREAM) as trial:
        try:
            trial.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)  # noqa: PTH108 - path is text from the user
            return
    raise OSError(errno.EADDRINUSE, "address already in use", path)
