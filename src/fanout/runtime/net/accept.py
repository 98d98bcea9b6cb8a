"""The accept loop of one door."""

import contextlib
import errno
from collections.abc import Awaitable, Callable

import trio

from fanout.core.pace import Pace
from fanout.runtime.net.transport import CONNECTION_ERRORS, Listener, Transport
from fanout.runtime.process.logs import FloodLog

ACCEPT_PAUSE_FIRST_SECONDS = 0.01
ACCEPT_PAUSE_MAX_SECONDS = 1.0
"""The pause after running out of file descriptors; connected clients are served meanwhile."""

_OVERLOAD = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}


async def accept_clients(
    listener: Listener,
    handle: Callable[[Transport], Awaitable[None]],
    *,
    clients_max: int,
    connects_per_second_max: int,
    refusal: bytes,
    on_refused: Callable[[], None] = lambda: None,
) -> None:
    """Serve each connection with `handle`; above `clients_max` send `refusal` and close.

    `on_refused` is called for each refusal. Connections faster than `connects_per_second_max` wait
    in the kernel. Runs until cancelled, which ends the clients as well. When the listener is
    closed, no more connections are accepted, and connected clients are served to their end.
    """
    clients = 0
    pause = ACCEPT_PAUSE_FIRST_SECONDS
    pace = Pace(connects_per_second_max)
    log = FloodLog()

    async def serve(transport: Transport) -> None:
        nonlocal clients
        clients += 1
        try:
            await handle(transport)
        finally:
            clients -= 1
            transport.close()

    async with trio.open_nursery() as nursery:
        while True:
            try:
                transport = await listener.accept()
            except trio.ClosedResourceError:
                return
            except OSError as error:
                if error.errno not in _OVERLOAD:
                    continue  # the connection ended before it was accepted
                reason = error.strerror or ""
                log.warning("accept_paused", code=reason, listener=str(listener.endpoint))
                await trio.sleep(pause)
                pause = min(2 * pause, ACCEPT_PAUSE_MAX_SECONDS)
                continue
            pause = ACCEPT_PAUSE_FIRST_SECONDS
            if clients < clients_max:
                nursery.start_soon(serve, transport)
            else:
                log.warning(
                    "client_refused", code="full", peer=transport.peer, clients_max=clients_max
                )
                on_refused()
                with contextlib.suppress(*CONNECTION_ERRORS):
                    transport.send_nowait(refusal)
                transport.close()
            if delay_seconds := pace.delay_seconds(trio.current_time()):
                await trio.sleep(delay_seconds)
