"""Byte streams and listeners: the interface between fanout and the operating system.

All other code uses `Transport`, `Listener` and `Network`, so the simulated fleet runs the same code
over `fanout.testing.network`. Non-blocking writes are part of the interface: the hot path sends
synchronously and waits only when the peer is slow.
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
"""The exceptions of a transport whose stream failed or was closed, by either side."""

KEEPALIVE_IDLE_SECONDS = 5
KEEPALIVE_INTERVAL_SECONDS = 5
KEEPALIVE_COUNT = 3
USER_TIMEOUT_MILLISECONDS = 10_000
"""A dead host is detected within this time; a stopped process is not, hence the probes."""

LISTEN_BACKLOG = 1024


class Transport(Protocol):
    """One connected byte stream."""

    peer: str
    """The address of the peer, for logs."""

    @property
    def unsent(self) -> bool:
        """Whether bytes accepted by `send_nowait` are not yet sent: call `wait_sendable`."""

    def send_nowait(self, data: bytes | memoryview) -> int:
        """Send without waiting; return the number of bytes accepted, possibly 0.

        Raises:
            OSError, trio.BrokenResourceError, trio.ClosedResourceError: the stream ended.

        """

    async def wait_sendable(self) -> None:
        """Wait until `send_nowait` accepts bytes. Raises as `send_nowait`."""

    async def receive_some(self, bytes_max: int) -> bytes:
        """Wait for bytes; return them, or b"" at the end of stream. Raises as `send_nowait`."""

    def close(self) -> None:
        """Close the stream; tasks waiting on it get `trio.ClosedResourceError`. Idempotent."""


class Listener(Protocol):
    """A bound address. It refuses connections until `listen` is called."""

    @property
    def endpoint(self) -> Endpoint:
        """The bound address, with the assigned port in place of port 0."""

    def listen(self) -> None:
        """Start to accept connections."""

    async def accept(self) -> Transport:
        """Wait for the next connection and return it. Raises OSError, trio.ClosedResourceError."""

    def close(self) -> None:
        """Stop listening, and remove the file of a Unix socket. Idempotent."""


class Network(Protocol):
    """A factory of transports and listeners."""

    async def connect(self, endpoint: Endpoint, *, tls: bool = False) -> Transport:
        """Connect, with a TLS handshake if `tls`; the caller sets a timeout. Raises OSError."""

    async def bind(self, endpoint: Endpoint) -> Listener:
        """Bind without listening. Raises OSError."""


class SocketTransport:
    """A `Transport` over a TCP or Unix socket."""

    unsent = False  # the kernel sends the accepted bytes
    __slots__ = ("_socket", "peer")

    def __init__(self, socket: stdlib_socket.socket, peer: str) -> None:
        socket.setblocking(False)
        if socket.family in (stdlib_socket.AF_INET, stdlib_socket.AF_INET6):
            _tune(socket)
        self._socket = socket
        self.peer = peer

    def send_nowait(self, data: bytes | memoryview) -> int:
        """Send the bytes that the socket accepts now; return their number."""
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0

    async def wait_sendable(self) -> None:
        """Wait until the socket is writable."""
        await trio.lowlevel.wait_writable(self._socket)

    async def receive_some(self, bytes_max: int) -> bytes:
        """Wait for bytes and return them; empty at the end of the stream.

        Waits before the first try, which saves a system call: earlier bytes were almost always
        read before. (trio's own `recv` tries first, and then runs a checkpoint.)
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
    """Set TCP_NODELAY, and keepalive that detects dead hosts within seconds."""
    set_option = socket.setsockopt
    set_option(stdlib_socket.IPPROTO_TCP, stdlib_socket.TCP_NODELAY, 1)
    set_option(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_KEEPALIVE, 1)
    # Some systems lack some options: the system's keepalive defaults apply there.
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
        """Start to accept connections."""
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
    """The real network; with `within`, only addresses inside these networks."""

    def __init__(self, within: Sequence[IPNetwork] = ()) -> None:
        self._within = tuple(within)

    async def connect(self, endpoint: Endpoint, *, tls: bool = False) -> Transport:
        """Connect to a TCP or Unix address; resolve host names at every call."""
        if tls:
            raise OSError(errno.EPROTONOSUPPORT, "TLS is not supported here")
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
        """Connect to the first allowed address of a host that accepts the connection.

        Resolved addresses are checked, not names: the owner of a name decides where it points.
        """
        refusal = OSError(errno.EACCES, "outside the allowed networks")
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
        """Bind a TCP or Unix address without listening."""
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
    """Return the address; IPv4 for an IPv4-mapped one (RFC 4291 section 2.5.5.2)."""
    address = ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _bind_unix(path: str) -> stdlib_socket.socket:
    """Bind a Unix socket with mode 0600, and replace a stale socket file.

    The umask sets the mode when the file is created: a chmod afterwards leaves a moment in which
    any user may connect (CVE-2023-45145).
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
