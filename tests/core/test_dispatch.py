"""The fan-out: every client gets what a brute-force match says, in order."""

import attrs
from hypothesis import given
from hypothesis import strategies as st

from fanout.core.dispatch import Dispatch, Encoders
from fanout.core.glob import compile_pattern
from fanout.core.outbox import Outbox
from fanout.values.names import SHARD_PREFIX, Kind, Space
from fanout.values.requests import Encoding


@attrs.define(eq=False)
class Client:
    """A client that records what it gets."""

    encoding: Encoding
    outbox: Outbox = attrs.field(factory=lambda: Outbox(1_000_000))
    delivered: int = 0

    def text(self) -> bytes:
        """What it was given."""
        return bytes(self.outbox.head()) if self.outbox else b""


def encoders(letter: bytes) -> Encoders:
    """Return an encoding that shows what was encoded."""
    return Encoders(
        lambda channel, payloads: b"".join(b"%b(%b %b)" % (letter, channel, p) for p in payloads),
        lambda pattern, messages: b"".join(
            b"%b[%b %b %b]" % (letter, pattern, channel, p) for channel, p in messages
        ),
        lambda channel, payloads: b"".join(b"%b{%b %b}" % (letter, channel, p) for p in payloads),
    )


TABLE = {
    Encoding.RESP2: encoders(b"2"),
    Encoding.RESP3: encoders(b"3"),
    Encoding.JSON: encoders(b"J"),
}
channels = st.sampled_from([b"a", b"ab", b"b"])
patterns = st.sampled_from([b"a*", b"*b", b"?"])
subscriptions = st.lists(
    st.tuples(
        st.sampled_from(list(Encoding)),
        st.sets(channels),
        st.sets(patterns),
    ),
    max_size=5,
)


@given(subscriptions, st.lists(st.tuples(channels, st.sampled_from([b"1", b"2"])), max_size=8))
def test_equals_a_brute_force_match(
    wanted: list[tuple[Encoding, set[bytes], set[bytes]]], messages: list[tuple[bytes, bytes]]
) -> None:
    """Per name, each client gets each message once, in order, in its own encoding."""
    dispatch: Dispatch[Client] = Dispatch(TABLE)
    clients = []
    for encoding, of_channels, of_patterns in wanted:
        client = Client(encoding)
        clients.append(client)
        for name in of_channels:
            dispatch.add(Kind.CHANNEL, name, client)
        for name in of_patterns:
            dispatch.add(Kind.PATTERN, name, client)
    for channel, payload in messages:
        dispatch.take([(b"message", channel, payload)])
        for pattern in (b"a*", b"*b", b"?"):
            if compile_pattern(pattern)(channel):
                dispatch.pmessage(pattern, channel, payload)
    fed, slow = dispatch.encode()

    assert slow == []
    for client, (encoding, of_channels, of_patterns) in zip(clients, wanted, strict=True):
        table, text = TABLE[encoding], client.text()
        expected = 0
        for name in of_channels:
            part = table.messages(name, [p for c, p in messages if c == name])
            assert part in text
            expected += len(part)
        for name in of_patterns:
            part = table.pmessages(name, [(c, p) for c, p in messages if compile_pattern(name)(c)])
            assert part in text
            expected += len(part)
        assert len(text) == expected
        assert (client in fed) is bool(text)
    for channel in (b"a", b"ab", b"b"):
        assert dispatch.receivers(channel) == sum(
            (channel in of_channels) + sum(compile_pattern(p)(channel) for p in of_patterns)
            for _, of_channels, of_patterns in wanted
        )


def test_a_slow_consumer_is_named_and_the_others_are_fed() -> None:
    """A full outbox is a verdict on its owner alone."""
    dispatch: Dispatch[Client] = Dispatch(TABLE)
    slow, fast = Client(Encoding.RESP2, Outbox(10)), Client(Encoding.RESP2)
    slow.outbox.append(b"waiting")
    for client in (slow, fast):
        dispatch.add(Kind.CHANNEL, b"c", client)
    dispatch.take([(b"message", b"c", b"payload")])
    _, cut = dispatch.encode()

    assert cut == [slow]
    assert slow.text() == b"waiting"
    assert fast.text() == b"2(c payload)"


def test_nothing_is_delivered_after_discard() -> None:
    """A client that left, and an empty table, cost nothing and get nothing."""
    dispatch: Dispatch[Client] = Dispatch(TABLE)
    client = Client(Encoding.JSON)
    for kind in Kind:
        dispatch.add(kind, b"c", client)
        dispatch.discard(kind, b"c", client)
        dispatch.discard(kind, b"c", client)
    pushes = [(b"message", b"c", b"x"), (b"subscribe", b"c", 1)]
    dispatch.pmessage(b"c", b"c", b"x")

    assert dispatch.take(pushes) == pushes
    assert dispatch.encode() == ([], [])
    assert dispatch.receivers(b"c") == 0


def test_shard_channels_are_a_space_of_their_own() -> None:
    """Delivered under the name the client used, heard by no pattern, listed apart."""
    dispatch: Dispatch[Client] = Dispatch(TABLE)
    client, other = Client(Encoding.RESP3), Client(Encoding.RESP2)
    dispatch.add(Kind.CHANNEL, SHARD_PREFIX + b"c", client)
    dispatch.add(Kind.CHANNEL, b"c", other)
    dispatch.add(Kind.PATTERN, b"*", other)
    dispatch.take([(b"message", SHARD_PREFIX + b"c", b"x")])
    dispatch.take([(b"message", SHARD_PREFIX + b"d", b"y")])
    dispatch.encode()

    assert (client.text(), other.text()) == (b"3{c x}", b"")
    assert dispatch.receivers(SHARD_PREFIX + b"c") == 1
    assert dispatch.receivers(b"c") == 2
    assert {space: list(dispatch.names(space)) for space in Space} == {
        Space.CHANNELS: [b"c"],
        Space.PATTERNS: [b"*"],
        Space.SHARDS: [b"c"],
    }
    assert [dispatch.subscribers(space, b"c") for space in Space] == [1, 0, 1]
