"""The outbox: bounded, whole blobs, in order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fanout.core.outbox import CHUNK_BYTES_MAX, Outbox


class OutboxMachine(RuleBasedStateMachine):
    """An outbox behaves as one byte string that is cut at the front and bounded at the back."""

    def __init__(self) -> None:
        super().__init__()
        self.outbox = Outbox(100)
        self.waiting = b""
        self.begun_rest = b""  # the rest of a blob whose first bytes have left
        self.blobs: list[bytes] = []

    @rule(blob=st.binary(min_size=1, max_size=60))
    def append(self, blob: bytes) -> None:
        """A blob is taken whole, or refused whole when it would pass the limit."""
        fits = not self.waiting or len(self.waiting) + len(blob) <= 100

        assert self.outbox.append(blob) is fits

        if fits:
            self.waiting += blob
            self.blobs.append(blob)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def hand_over(self, data: st.DataObject) -> None:
        """What leaves is what came first."""
        head = bytes(self.outbox.head())
        count = data.draw(st.integers(0, len(head)))

        assert head and self.waiting.startswith(head)

        self.outbox.advance(count)
        self.waiting = self.waiting[count:]

    @rule(farewell=st.binary(max_size=10))
    def truncate(self, farewell: bytes) -> None:
        """Only the rest of a blob begun, and the farewell, remain."""
        rest = b""
        left = len(self.waiting)
        for blob in reversed(self.blobs):
            if left <= 0:
                break
            if left < len(blob):
                rest = blob[-left:]
            left -= len(blob)
        self.outbox.truncate(farewell)
        self.waiting = rest + farewell
        self.blobs = [blob for blob in (rest, farewell) if blob]
        if rest:
            # The model forgets the part that has left; the rest counts as begun.
            self.blobs[0] = b"x" + rest

    @invariant()
    def sizes_agree(self) -> None:
        """The size is the number of bytes that wait."""
        assert self.outbox.size == len(self.waiting)
        assert bool(self.outbox) is bool(self.waiting)


TestOutboxMachine = OutboxMachine.TestCase


def test_head_is_bounded() -> None:
    """However much waits, one hand-over joins little more than a chunk."""
    outbox = Outbox(10 * CHUNK_BYTES_MAX)
    for _ in range(50):
        outbox.append(b"x" * (CHUNK_BYTES_MAX // 10))

    assert len(outbox.head()) <= CHUNK_BYTES_MAX + CHUNK_BYTES_MAX // 10


@given(st.integers(min_value=4))
def test_cannot_hand_over_more_than_waits(count: int) -> None:
    """A wrong count is refused and changes nothing."""
    outbox = Outbox(10)
    outbox.append(b"abc")

    with pytest.raises(ValueError, match="cannot advance by"):
        outbox.advance(count)

    assert outbox.head() == b"abc"
