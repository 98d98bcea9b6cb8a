"""How messages and gaps are written."""

import base64
import json

import pytest

from fanout.client import Event, Gap, Message
from fanout.terminal.pubsub import event_json, gap_text, message_text
from fanout.terminal.table import PLAIN, Palette
from fanout.wire.ws import bridge_client
from tests.support.bridge_schema import received

MESSAGES = [
    Message("c", b"text"),
    Message("c", "é\n\x1b[31m".encode()),
    Message("c", b"\xff\x00"),
    Message("c\udcff", b"", "p*\udcfe"),
    Message("", b"", ""),
]


@pytest.mark.parametrize("event", [*MESSAGES, Gap("n", "lost"), Gap("n", "left")])
def test_json_is_that_of_the_bridge(event: Event) -> None:
    """It fits the schema, can be read again, and takes one line. Gaps of the client are more."""
    text = event_json(event)
    received(text)

    assert "\n" not in text
    assert bridge_client.event(json.loads(text)) == event


def test_bytes_that_are_no_text_are_base64() -> None:
    """As docs/websocket.md says."""
    values = json.loads(event_json(Message("c", b"\xff\x00")))

    assert values == {
        "type": "message",
        "channel": "c",
        "data_base64": base64.b64encode(b"\xff\x00").decode(),
    }


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (Message("c", b"text"), "c  text"),
        (Message("c", "é\n\x1b[31m".encode()), "c  é\\n\\x1b[31m"),
        (Message("c", b"\xff\x00"), "c  \\xff\\x00"),
        (Message("c1", b"x", "c*"), "c1 (c*)  x"),
    ],
)
def test_a_message_takes_one_line(message: Message, line: str) -> None:
    """What a terminal would obey is shown instead."""
    assert message_text(message, palette=PLAIN) == line
    head, _, rest = line.partition("  ")
    assert message_text(message, palette=Palette(on=True)) == f"\x1b[2m{head}\x1b[0m  {rest}"


@pytest.mark.parametrize(
    ("gap", "words"),
    [
        (Gap("n", "lost"), "gap: n is not heard"),
        (Gap("n", "heard"), "gap: n is heard again"),
        (Gap("n", "left"), "gap: n is given up"),
        (Gap("", "reconnected"), "gap: reconnected"),
        (Gap("", "overflow"), "gap: output too slow"),
        (Gap("n", "new\n"), "gap: n messages may be missed (new\\n)"),
    ],
)
def test_every_gap_is_told_in_words(gap: Gap, words: str) -> None:
    """Also one of a newer sidecar."""
    assert gap_text(gap).startswith(words)
    assert "\n" not in gap_text(gap)
