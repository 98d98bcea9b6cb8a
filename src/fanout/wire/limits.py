"""What one client may ask for: the same rules at both doors.

A refusal is a code and a sentence; each door writes it in its own form. Where an option sets the
limit the sentence names it, so that whoever reads it knows what to raise.
"""

from collections.abc import Collection, Iterable
from typing import Protocol

import attrs

from fanout.values.names import RESERVED_PREFIX, Kind


@attrs.frozen(slots=True)
class Refusal:
    """Why something is not done: a stable `code` and a `message` for a person."""

    code: str
    message: str


class Access(Protocol):
    """What a client may do; see `fanout.core.access`."""

    @property
    def user(self) -> str:
        """Who has logged in."""

    def may_publish(self, channel: bytes) -> bool:
        """Return whether messages to a channel are taken."""

    def may_subscribe(self, channel: bytes) -> bool:
        """Return whether a channel may be heard."""

    def may_psubscribe(self, pattern: bytes) -> bool:
        """Return whether a pattern may be heard."""


class Patterns:
    """The distinct patterns of all clients of this sidecar, which every message is matched with."""

    def __init__(self, distinct_max: int) -> None:
        self.distinct_max = distinct_max
        self._clients: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._clients)

    def fits(self, patterns: Iterable[bytes]) -> bool:
        """Return whether these can be added within the limit."""
        new = sum(pattern not in self._clients for pattern in set(patterns))
        return len(self._clients) + new <= self.distinct_max

    def add(self, pattern: bytes) -> None:
        """Count one more client of a pattern."""
        self._clients[pattern] = self._clients.get(pattern, 0) + 1

    def discard(self, pattern: bytes) -> None:
        """Count one client less."""
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
        """Check that a name or pattern is no longer than one may be."""
        if len(name) > self.channel_bytes_max:
            return Refusal(
                "name_too_long",
                f"channel name of {len(name)} bytes is over the limit of "
                f"{self.channel_bytes_max} bytes (channel-bytes-max)",
            )
        return None

    def check_payload(self, payload: bytes) -> Refusal | None:
        """Check the payload of a message."""
        if len(payload) > self.payload_bytes_max:
            return Refusal(
                "message_too_large",
                f"message of {len(payload)} bytes is over the limit of "
                f"{self.payload_bytes_max} bytes (payload-bytes-max)",
            )
        return None

    def check_subscribe(
        self, kind: Kind, held: Collection[bytes], names: Collection[bytes]
    ) -> Refusal | None:
        """Check a wish for `names` of a client that has `held`, of the same kind."""
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
                f"{len(held) + len(new)} {what} are over the limit of {limit} a client ({option})",
            )
        if kind is Kind.PATTERN and not self.patterns.fits(new):
            return Refusal(
                "too_many_subscriptions",
                f"the clients of this sidecar would have more than {self.patterns.distinct_max} "
                "different patterns (distinct-patterns-max)",
            )
        return None
