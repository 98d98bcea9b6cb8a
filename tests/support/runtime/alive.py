"""Counts what is left of clients, nodes and their connections."""

import gc

from fanout.core.reply_queue import ReplySlot
from fanout.core.subscriptions import Ticket
from fanout.runtime.doors.local_client import LocalClient
from fanout.runtime.redis.link import Link
from fanout.runtime.sidecar.node_link import NodeLink
from fanout.wire.resp.requests import RequestDecoder
from fanout.wire.resp.session import Session
from fanout.wire.ws.bridge import BridgeSession
from fanout.wire.ws.websocket import WebSocketServer

COUNTED = (
    *(LocalClient, Session, BridgeSession, RequestDecoder, WebSocketServer, ReplySlot, Ticket),
    *(NodeLink, Link),
)


def alive() -> dict[str, int]:
    """Return how many objects there are of each counted kind."""
    gc.collect()
    names = [type(each).__name__ for each in gc.get_objects() if type(each) in COUNTED]
    return {name: names.count(name) for name in names}
