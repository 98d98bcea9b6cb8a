"""What local clients ask for, and what becomes of a publish."""

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any

import attrs

from fanout.values.names import Kind, Space


class Encoding(Enum):
    """How one delivery is written for one kind of local client."""

    RESP2 = "resp2"
    RESP3 = "resp3"
    JSON = "json"  # a websocket text frame


Ready = bytes | Callable[[], bytes]
"""The bytes of a reply, or what makes them at the moment they go out."""


@attrs.frozen(slots=True)
class Reply:
    """A request was answered on the spot; `data` goes to the client in its turn."""

    data: Ready


@attrs.frozen(slots=True)
class Publish:
    """The client publishes; its reply is written when the outcome is known."""

    channel: bytes
    payload: bytes
    tag: Any = None  # whatever the door needs to write the reply, such as a request id


@attrs.define(slots=True)
class PublishRun:
    """The client publishes messages in a row, and wants a reply to each."""

    channels: Sequence[bytes]  # of each message; equal neighbours are best the same object
    data: bytes  # the commands as Redis reads them
    ends: Sequence[int]  # where in `data` each of them ends

    def command(self, index: int) -> bytes:
        """Return the command that publishes one of the messages."""
        return self.data[self.ends[index - 1] if index else 0 : self.ends[index]]


@attrs.frozen(slots=True)
class Subscribe:
    """The client subscribes to `names` it did not have; `reply` follows the confirmation."""

    kind: Kind
    names: tuple[bytes, ...]
    reply: bytes
    tag: Any = None  # for a door that writes its reply when it knows which nodes confirmed


@attrs.frozen(slots=True)
class Unsubscribe:
    """The client gives up `names`; after `reply` it gets nothing more for them."""

    kind: Kind
    names: tuple[bytes, ...]
    reply: bytes


@attrs.frozen(slots=True)
class Reset:
    """The client gives up everything and starts anew; deliveries follow `encoding`."""

    encoding: Encoding
    unsubscribe: bool
    reply: bytes


@attrs.frozen(slots=True)
class Close:
    """The connection ends after `reply`."""

    reply: Ready
    reason: str


@attrs.frozen(slots=True)
class Question:
    """How many clients subscribe to what, in the whole fleet?

    About `names`, or, where that is None, about every name that matches the pattern `glob`; about
    every name at all where that is None too: to Redis `*` does not match the empty name.
    """

    space: Space
    names: tuple[bytes, ...] | None = None
    glob: bytes | None = None


@attrs.frozen(slots=True)
class Ask:
    """The fleet is asked; `reply` makes the reply of the clients counted for each name."""

    question: Question
    reply: Callable[[Mapping[bytes, int]], bytes]


@attrs.frozen(slots=True)
class Exec:
    """Several requests are answered at once: `header`, then the reply of each action."""

    header: bytes
    actions: tuple["Action", ...]


Action = Reply | Publish | Subscribe | Unsubscribe | Reset | Close | Ask | Exec
"""What a door's session wants done for one request."""


@attrs.frozen(slots=True)
class NotPublished:
    """Certainly not executed anywhere. `code` is stable, `message` is for a person."""

    code: str
    message: str


@attrs.frozen(slots=True)
class OutcomeUnknown:
    """The connection to the node broke with the publish in flight: it may have been executed."""

    message: str


Outcome = int | NotPublished | OutcomeUnknown
"""What became of a publish. A number: the node executed it, and so many receivers are told."""
