"""A subscribed websocket client, and the gaps it receives."""

from typing import Any

from tests.support.runtime.fleet import MemoryFleet
from tests.support.runtime.ws_client import WsConnection, open_websocket


def ok(id_: Any, **more: Any) -> Any:
    """Return the answer to what was done."""
    return {"type": "ok", "id": id_, **more}


def gap(node: str, reason: str) -> Any:
    """Return the event of a gap."""
    return {"type": "gap", "node": node, "reason": reason}


async def subscriber(fleet: MemoryFleet, sidecar: str = "sidecar-1") -> WsConnection:
    """Return a client that is subscribed to channel `c`."""
    client = await open_websocket(fleet.network, sidecar)
    assert await client.ask(op="subscribe", channels=["c"], id=1) == ok(1)
    return client
