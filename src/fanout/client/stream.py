"""The way to a door of a sidecar, by TCP or TLS."""

import ssl
from urllib.parse import SplitResult

import trio

Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]


async def open_stream(url: SplitResult, context: ssl.SSLContext | None) -> Stream:
    """Connect to host and port of `url`, by TLS if there is a `context`.

    TLS is agreed on here: whoever speaks first on a stream would hide why that fails.

    Raises:
        OSError, trio.BrokenResourceError: it cannot be.

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
