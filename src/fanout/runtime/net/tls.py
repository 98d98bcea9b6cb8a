"""TLS over any transport, with the same synchronous writes."""

import contextlib
import math
import ssl

import trio

from fanout.runtime.net.certificates import Contexts
from fanout.runtime.net.transport import CONNECTION_ERRORS, Listener, Network, Transport
from fanout.runtime.process.logs import FloodLog
from fanout.values.names import Endpoint

CHUNK_BYTES_MAX = 262_144
"""The most bytes encrypted at once; the unsent part is kept encrypted."""
RECEIVE_BYTES_MAX = 65_536

HANDSHAKE_SECONDS = 5.0
"""The handshake timeout of a client; for outgoing connections the caller sets one."""


class TlsTransport:
    """A `Transport` over another one. The first receive performs the handshake."""

    def __init__(
        self,
        inner: Transport,
        context: ssl.SSLContext,
        *,
        server_hostname: str | None = None,
        flood_log: FloodLog | None = None,
    ) -> None:
        self._inner = inner
        self._flood_log = flood_log
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_hostname is None,
            server_hostname=server_hostname,
        )
        self._encrypted = b""  # accepted from the caller, not yet sent
        self._established = False
        self.peer = inner.peer

    @property
    def unsent(self) -> bool:
        """Whether accepted bytes were not yet sent."""
        return bool(self._encrypted)

    def send_nowait(self, data: bytes | memoryview) -> int:
        """Encrypt and send; accept nothing while earlier bytes wait, or before the handshake."""
        if not self._flush() or not self._established:
            return 0
        try:
            taken = self._tls.write(data[:CHUNK_BYTES_MAX])
        except ssl.SSLError as error:
            raise OSError(f"TLS: {error.reason}") from None
        self._flush()
        return taken

    async def wait_sendable(self) -> None:
        """Wait until the pending bytes are sent and more are accepted."""
        await self._inner.wait_sendable()
        await self._drain()

    async def handshake(self) -> None:
        """Perform the TLS handshake. Raises OSError when it fails."""
        if self._established:
            return
        try:
            with trio.fail_after(HANDSHAKE_SECONDS if self._tls.server_side else math.inf):
                await self._exchange_handshake()
        except ssl.SSLError as error:
            self._log_failure("" if isinstance(error, ssl.SSLEOFError) else _why(error))
            with contextlib.suppress(*CONNECTION_ERRORS):
                self._flush()  # the TLS alert
            raise OSError(f"TLS: {_why(error)}") from None
        except trio.TooSlowError:
            self._log_failure("handshake timeout")
            raise OSError("TLS: handshake timeout") from None

    def _log_failure(self, why: str) -> None:
        """Log a failed handshake of a client; log nothing when it only disconnected."""
        if why and self._flood_log is not None:
            self._flood_log.warning("consumer_failed", code="tls", consumer=self.peer, reason=why)

    async def _exchange_handshake(self) -> None:
        while not self._established:
            try:
                self._tls.do_handshake()
                self._established = True
            except ssl.SSLWantReadError:
                await self._exchange()
            else:
                if not self._tls.server_side:
                    await self._drain()  # the server waits for the last message

    async def receive_some(self, bytes_max: int) -> bytes:
        """Wait for bytes and return them; empty at the end of the stream."""
        await self.handshake()
        while True:
            try:
                return self._tls.read(bytes_max)
            except ssl.SSLWantReadError:
                self._flush()  # must not wait for the peer to read: it may be waiting for this side
                await self._take()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""
            except ssl.SSLError as error:
                raise OSError(f"TLS: {_why(error)}") from None

    def close(self) -> None:
        """Send close_notify, if that is possible without waiting, and close."""
        if self._established:
            with contextlib.suppress(ssl.SSLError, *CONNECTION_ERRORS):
                try:
                    self._tls.unwrap()
                finally:
                    self._flush()
        self._inner.close()

    async def _exchange(self) -> None:
        """Send pending handshake bytes, then receive."""
        await self._drain()
        await self._take()

    async def _take(self) -> None:
        data = await self._inner.receive_some(RECEIVE_BYTES_MAX)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    async def _drain(self) -> None:
        while not self._flush():
            await self._inner.wait_sendable()

    def _flush(self) -> bool:
        """Send encrypted bytes; return whether all were accepted."""
        if self._outgoing.pending:
            self._encrypted += self._outgoing.read()
        while self._encrypted:
            taken = self._inner.send_nowait(self._encrypted)
            self._encrypted = self._encrypted[taken:]
            if not taken:
                return False
        return True


def _why(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    return (error.reason or "protocol error").replace("_", " ").lower()


class TlsListener:
    """A `Listener` whose connections speak TLS."""

    def __init__(self, inner: Listener, context: ssl.SSLContext) -> None:
        self._inner = inner
        self._context = context
        self._flood_log = FloodLog()

    @property
    def endpoint(self) -> Endpoint:
        """The bound address."""
        return self._inner.endpoint

    def listen(self) -> None:
        """Start to accept connections."""
        self._inner.listen()

    async def accept(self) -> Transport:
        """Wait for the next connection; its first receive performs the handshake."""
        return TlsTransport(await self._inner.accept(), self._context, flood_log=self._flood_log)

    def close(self) -> None:
        """Stop listening."""
        self._inner.close()


class TlsNetwork:
    """A `Network` that can also connect over TLS."""

    def __init__(self, inner: Network, contexts: Contexts) -> None:
        self._inner = inner
        self._contexts = contexts

    async def connect(self, endpoint: Endpoint, *, tls: bool = False) -> Transport:
        """Connect; with `tls` also verify the certificate and host name. Raises OSError."""
        transport = await self._inner.connect(endpoint)
        if not tls:
            return transport
        secure = TlsTransport(
            transport, self._contexts.client, server_hostname=endpoint.host or "localhost"
        )
        try:
            await secure.handshake()
        except BaseException:
            secure.close()
            raise
        return secure

    async def bind(self, endpoint: Endpoint) -> Listener:
        """Bind without listening. Raises OSError."""
        return await self._inner.bind(endpoint)
