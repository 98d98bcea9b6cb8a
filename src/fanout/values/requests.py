"""Requests of local clients, and the outcomes of publishes."""

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any

import attrs

from fanout.values.names import Kind, Space


class Encoding(Enum):
    """The encoding of deliveries to a client."""

    RESP2 = "resp2"
    RESP3 = "resp3"
    JSON = "json"  # a websocket text frame


Ready = bytes | Callable[[], bytes]
"""The bytes of a reply, or a function that makes them when they are sent."""


@attrs.frozen(slots=True)
class Reply:
    """A request that is answered at once; `data` is sent in the order of the requests."""

    data: Ready


@attrs.frozen(slots=True)
class Publish:
    """The client publishes a message; the reply is sent when the outcome is known."""

    channel: bytes
    payload: bytes
    tag: Any = None  # what the door needs for the reply, such as a request id


@attrs.define(slots=True)
class PublishRun:
    """The client publishes messages in a row, each with a reply."""

    channels: Sequence[bytes]  # of each message; equal neighbours should be one object
    data: bytes  # the commands as Redis reads them
    ends: Sequence[int]  # where in `data` each of them ends

    def command(self, index: int) -> bytes:
        """Return the command that publishes one of the messages."""
        return self.data[self.ends[index - 1] if index else 0 : self.ends[index]]


@attrs.frozen(slots=True)
class Subscribe:
    """The client subscribes to new `names`; `reply` is sent once the nodes have confirmed."""

    kind: Kind
    names: tuple[bytes, ...]
    reply: bytes
    tag: Any = None  # for a door whose reply tells which nodes are not heard


@attrs.frozen(slots=True)
class Unsubscribe:
    """The client unsubscribes from `names`; after `reply` it gets no more messages of them."""

    kind: Kind
    names: tuple[bytes, ...]
    reply: bytes


@attrs.frozen(slots=True)
class Reset:
    """The connection is reset; deliveries use `encoding` from now on."""

    encoding: Encoding
    unsubscribe: bool
    reply: bytes


@attrs.frozen(slots=True)
class Close:
    """The connection is closed after `reply`."""

    reply: Ready
    reason: str


@attrs.frozen(slots=True)
class Question:
    """A question to the fleet: how many clients subscribe to each of these names?

    The names are `names`; if None, all that match the pattern `glob`; if that is None too, all
    names (in Redis, `*` does not match the empty name).
    """

    space: Space
    names: tuple[bytes, ...] | None = None
    glob: bytes | None = None


@attrs.frozen(slots=True)
class Ask:
    """Ask the fleet; `reply` makes the reply from the number of clients of each name."""

    question: Question
    reply: Callable[[Mapping[bytes, int]], bytes]


@attrs.frozen(slots=True)
class Exec:
    """Answer several requests as one: `header`, then the reply of each action."""

    header: bytes
    actions: tuple["Action", ...]


Action = Reply | Publish | Subscribe | Unsubscribe | Reset | Close | Ask | Exec
"""What a session returns for one request."""


@attrs.frozen(slots=True)
class NotPublished:
    """The message was not executed on any node. `code` is stable, `message` is for people."""

    code: str
    message: str


@attrs.frozen(slots=True)
class OutcomeUnknown:
    """The connection to the node was lost with the publish in flight: it may have been executed."""

    message: str


Outcome = int | NotPublished | OutcomeUnknown
"""The outcome of a publish. An integer: the node executed it; the number of receivers."""
