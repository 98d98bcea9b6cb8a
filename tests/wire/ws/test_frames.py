"""Frames that are read at once: those beyond doubt, and no others."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.wire.ws.frames import FrameMeter, whole_text
from tests.support.wire.rfc6455 import BINARY, CONTINUATION, MASK, PING, TEXT, frame, header


@given(st.text(max_size=300), st.binary(max_size=5), st.binary(max_size=5))
def test_a_whole_text_is_read(text: str, before: bytes, behind: bytes) -> None:
    """With both short forms of a length; what stands around it does not matter."""
    data = before + frame(TEXT, text.encode()) + behind
    end = len(data) - len(behind)

    assert whole_text(data, len(before), 4 * 300) == (text, end)
    for size in range(len(before), end):
        assert whole_text(data[:size], len(before), 4 * 300) is None


@pytest.mark.parametrize(
    "data",
    [
        frame(TEXT, b"\xff"),
        frame(TEXT, b"over the limit of twenty bytes"),
        frame(TEXT, b"x", fin=False),
        frame(TEXT, b"x", rsv=4),
        frame(BINARY, b"x"),
        frame(CONTINUATION, b"x"),
        frame(PING, b"x"),
        header(TEXT, 1, form=3) + MASK + b"x",  # longer than it need be
        header(TEXT, 1, form=9) + MASK + b"x",
        header(TEXT, 5, mask=0) + b"words",
        struct.pack("!BB", 0x81, 126) + b"\0\0\0\0" + b"x" * 200,
        b"",
        b"\x81",
    ],
)
def test_anything_else_is_left_to_wsproto(data: bytes) -> None:
    """It knows what is wrong with it, if anything is."""
    assert whole_text(data, 0, 20) is None


def test_only_between_messages() -> None:
    """Within a message or a frame nothing can be read at once."""
    meter = FrameMeter(message_bytes_max=100, fragments_max=5)

    assert meter.idle

    begun = frame(TEXT, b"x", fin=False)
    for cut in range(1, len(begun)):
        meter.measure(begun[cut - 1 : cut])
        assert not meter.idle
    meter.measure(begun[-1:])
    assert not meter.idle
    meter.measure(frame(CONTINUATION, b"x"))
    assert meter.idle
