"""The limits of one client, the same for RESP and websocket.

A refusal has a code and a sentence; each door encodes it in its own form. The sentence names the
option that sets the limit.
"""

from collections.abc import Collection, Iterable
from typing import Protocol

import attrs

from fanout.values.names import RESERVED_PREFIX, Kind


@attrs.frozen(slots=True)
class Refusal:
    """Why a request is refused: a stable `code` and a `message` for people."""

    code: str
    message: str


class Access(Protocol):
    """The rights of a client; see `fanout.core.access`."""

    @property
    def user(self) -> str:
        """The name of the user that has logged in."""

    def may_publish(self, channel: bytes) -> bool:
        """Return whether the client may publish on a channel."""

    def may_subscribe(self, channel: bytes) -> bool:
        """Return whether the client may subscribe to a channel."""

    def may_psubscribe(self, pattern: bytes) -> bool:
        """Return whether the client may subscribe to a pattern."""


class Patterns:
    """The distinct patterns of all clients of a sidecar; every message is matched against each."""

    def __init__(self, distinct_max: int) -> None:
        self.distinct_max = distinct_max
        self._clients: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._clients)

    def fits(self, patterns: Iterable[bytes]) -> bool:
        """Return whether adding these patterns stays within the limit."""
        new = sum(pattern not in self._clients for pattern in set(patterns))
        return len(self._clients) + new <= self.distinct_max

    def add(self, pattern: bytes) -> None:
        """Count one more client of a pattern."""
        self._clients[pattern] = self._clients.get(pattern, 0) + 1

    def discard(self, pattern: bytes) -> None:
        """Count one client fewer of a pattern."""
        left = self._clients[pattern] - 1
        if left:
            self._clients[pattern] = left
        else:
            del self._clients[pattern]


@attrs.frozen(kw_only=True)
class ClientLimits:
    """The limits of each client; `patterns` is shared by all clients of a sidecar.

    The defaults are those of the options, in `fanout.config`.
    """

    payload_bytes_max: int
    channel_bytes_max: int
    subscriptions_max: int
    patterns_max: int
    transaction_bytes_max: int
    patterns: Patterns

    def check_name(self, name: bytes) -> Refusal | None:
        """Check a channel or pattern."""
        if name.startswith(RESERVED_PREFIX):
            return Refusal(
                "reserved_channel", f"channel names below '{RESERVED_PREFIX.decode()}' are reserved"
            )
        return self.check_length(name)

    def check_length(self, name: bytes) -> Refusal | None:
        """Check the length of a channel or pattern."""
        if len(name) > self.channel_bytes_max:
            return Refusal(
                "name_too_long",
                f"channel name of {len(name)} bytes exceeds the limit of "
                f"{self.channel_bytes_max} bytes (channel-bytes-max)",
            )
        return None

    def check_payload(self, payload: bytes) -> Refusal | None:
        """Check the payload of a message."""
        if len(payload) > self.payload_bytes_max:
            return Refusal(
                "message_too_large",
                f"message of {len(payload)} bytes exceeds the limit of "
                f"{self.payload_bytes_max} bytes (payload-bytes-max)",
            )
        return None

    def check_subscribe(
        self, kind: Kind, held: Collection[bytes], names: Collection[bytes]
    ) -> Refusal | None:
        """Check a subscribe to `names` of a client that already has `held`, of the same kind."""
        for name in names:
            if refusal := self.check_name(name):
                return refusal
        new = {name for name in names if name not in held}
        limit = self.patterns_max if kind is Kind.PATTERN else self.subscriptions_max
        if len(held) + len(new) > limit:
            what, option = (
                ("patterns", "patterns-max")
                if kind is Kind.PATTERN
                else ("channels", "subscriptions-max")
            )
            return Refusal(
                "too_many_subscriptions",
                f"{len(held) + len(new)} {what} exceed the limit of {limit} per client ({option})",
            )
        if kind is Kind.PATTERN and not self.patterns.fits(new):
            return Refusal(
                "too_many_subscriptions",
                f"the clients of this sidecar would exceed the limit of {self.patterns.distinct_max} "
                "different patterns (distinct-patterns-max)",
            )
        return None
