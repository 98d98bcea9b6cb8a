"""The door for Redis clients."""

from collections.abc import Callable, Mapping

from fanout.runtime.doors.door import DoorContext
from fanout.runtime.doors.resp_clients import RespClients
from fanout.runtime.doors.resp_connection import RespConnection
from fanout.runtime.net.accept import accept_clients
from fanout.runtime.net.transport import Listener, Transport
from fanout.wire.resp import replies
from fanout.wire.resp.heads import PublishHeadCache


async def serve_resp(
    context: DoorContext,
    listener: Listener,
    wall_milliseconds: Callable[[], int],
    facts: Callable[[], Mapping[str, object]],
) -> None:
    """Serve Redis clients until cancelled; `facts` is the sidecar's own section of INFO."""
    clients = RespClients(context, listener.endpoint, wall_milliseconds, facts)
    heads = PublishHeadCache()

    async def serve_client(transport: Transport) -> None:
        connection = RespConnection(context, transport, clients, heads)
        clients.add(connection.session, connection.client, transport.peer)
        try:
            await connection.serve()
        finally:
            clients.discard(connection.session.state.client_id)

    await accept_clients(
        listener,
        serve_client,
        clients_max=context.limits.clients_max,
        connects_per_second_max=context.limits.connects_per_second_max,
        refusal=replies.error("ERR max number of clients reached"),
        on_refused=context.clients.refuse,
    )
