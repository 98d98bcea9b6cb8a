"""Counts what is left of clients, nodes and their connections."""

import gc

from fanout.core.subscriptions import Ticket
from fanout.core.turns import Turn
from fanout.runtime.consumer import Consumer
from fanout.runtime.link import Link
from fanout.runtime.node_link import NodeLink
from fanout.wire.bridge import BridgeSession
from fanout.wire.requests import RequestDecoder
from fanout.wire.session import Session
from fanout.wire.websocket import WebSocketServer

COUNTED = (
    *(Consumer, Session, BridgeSession, RequestDecoder, WebSocketServer, Turn, Ticket),
    *(NodeLink, Link),
)


def alive() -> dict[str, int]:
    """Return how many objects there are of each counted kind."""
    gc.collect()
    names = [type(each).__name__ for each in gc.get_objects() if type(each) in COUNTED]
    return {name: names.count(name) for name in names}
