"""Local clients as recipients: the encoders of messages, and the limits of each client."""

from typing import Protocol

from fanout.config import Limits
from fanout.core.dispatch import Encoders, Recipient
from fanout.values.requests import Encoding
from fanout.wire.limits import ClientLimits, Patterns
from fanout.wire.resp import replies
from fanout.wire.ws import bridge_frames

ENCODERS = {
    Encoding.RESP2: Encoders(replies.messages2, replies.pmessages2, replies.smessages2),
    Encoding.RESP3: Encoders(replies.messages3, replies.pmessages3, replies.smessages3),
    # Websocket clients have no shard channels.
    Encoding.JSON: Encoders(
        bridge_frames.message_frames, bridge_frames.pmessage_frames, bridge_frames.message_frames
    ),
}


class LocalRecipient(Recipient, Protocol):
    """The methods of a local client that the fan-out calls."""

    def flush(self) -> None:
        """Send the outbox."""

    def overflow(self) -> None:
        """Disconnect the client: its outbox is full."""


def client_limits(limits: Limits) -> ClientLimits:
    """Return the limits of each client; all clients share the count of distinct patterns."""
    return ClientLimits(
        payload_bytes_max=limits.payload_bytes_max,
        channel_bytes_max=limits.channel_bytes_max,
        subscriptions_max=limits.subscriptions_max,
        patterns_max=limits.patterns_max,
        transaction_bytes_max=limits.transaction_bytes_max,
        patterns=Patterns(limits.distinct_patterns_max),
    )
