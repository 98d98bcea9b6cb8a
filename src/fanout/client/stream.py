"""Streams to a door of a sidecar, over TCP or TLS."""

import ssl
from urllib.parse import SplitResult

import trio

Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]


async def open_stream(url: SplitResult, context: ssl.SSLContext | None) -> Stream:
    """Connect to host and port of `url`, over TLS if there is a `context`.

    The TLS handshake is done here, so that its error is not hidden by that of the first send.

    Raises:
        OSError, trio.BrokenResourceError: connection or handshake failed.

    """
    host, port = url.hostname or "", url.port
    if context is None:
        return await trio.open_tcp_stream(host, port or 80)
    stream = await trio.open_ssl_over_tcp_stream(
        host, port or 443, ssl_context=context, https_compatible=True
    )
    try:
        await stream.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream
