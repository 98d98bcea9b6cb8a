"""Publish and subscribe from a terminal, through a sidecar's websocket door."""

import base64
import json
from collections.abc import Sequence

import trio

from fanout.client import Event, Gap, Message
from fanout.config import BridgeConfig
from fanout.runtime.process.text import escape
from fanout.terminal.call import open_call
from fanout.terminal.output import palette, tell, wait_closed, write
from fanout.terminal.table import DIM, Palette

GAPS = {
    "lost": "is not heard: messages may be missed until it is heard again",
    "heard": "is heard again: messages published on it meanwhile may be missed",
    "left": "is given up: the last messages published on it may be missed",
    "reconnected": "reconnected: messages published meanwhile are missed",
    "overflow": "output too slow: messages were dropped",
}
"""Reason of a gap -> its meaning."""


async def publish(config: BridgeConfig, channel: str, data: bytes, *, as_json: bool) -> int:
    """Publish one message and write the number of receivers; return the exit code.

    Raises:
        ConfigError: a file of certificates cannot be read.
        OutputFailed: standard output is closed or full.
        RequestFailed: publishing failed, or its outcome is unknown. Code `no_sidecar`: the sidecar
            cannot be reached.

    """
    async with open_call(config) as call:
        receivers = await call.client.publish(channel, data)
        write(f"{json.dumps({'receivers': receivers}) if as_json else receivers}\n")
    return 0


async def subscribe(
    config: BridgeConfig,
    channels: Sequence[str],
    patterns: Sequence[str],
    *,
    count: int | None,
    as_json: bool,
) -> int:
    """Write messages, one a line, up to `count`; return the exit code.

    Gaps are written to standard error, and with `as_json` also between the messages. A lost
    connection is reopened.

    Raises:
        ConfigError: a file of certificates cannot be read.
        OutputFailed: standard output is closed or full.
        RequestFailed: subscribing is not allowed. Code `no_sidecar`: the sidecar cannot be reached.

    """
    colours = palette()
    async with open_call(config) as call:
        client = call.client
        unheard = {*await client.subscribe(*channels), *await client.psubscribe(*patterns)}
        call.reached()
        tell(f"subscribed to {', '.join(map(escape, (*channels, *patterns)))}")
        for node in sorted(unheard):
            tell(f"gap: {escape(node)} {GAPS['lost']}")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_closed)
            left = count
            while left is None or left > 0:
                event = await anext(client)
                if isinstance(event, Gap):
                    tell(gap_text(event))
                elif left is not None:
                    left -= 1
                if as_json:
                    write(event_json(event) + "\n")
                elif isinstance(event, Message):
                    write(message_text(event, palette=colours) + "\n")
            nursery.cancel_scope.cancel()
    return 0


def gap_text(gap: Gap) -> str:
    """Return a gap as a line of text."""
    meaning = GAPS.get(gap.reason, f"messages may be missed ({escape(gap.reason)})")
    return f"gap: {escape(gap.node)} {meaning}" if gap.node else f"gap: {meaning}"


def message_text(message: Message, *, palette: Palette) -> str:
    """Return a message as a line of text: channel, pattern if one matched, payload."""
    by = "" if message.pattern is None else f" ({escape(message.pattern)})"
    head = palette.paint(f"{escape(message.channel)}{by}", DIM)
    return f"{head}  {escape(message.data.decode(errors='backslashreplace'))}"


def event_json(event: Event) -> str:
    """Return an event as JSON in the format of the websocket bridge, see docs/websocket.md."""
    if isinstance(event, Gap):
        return json.dumps({"type": "gap", "node": event.node, "reason": event.reason})
    fields: dict[str, str] = {"type": "message"}
    if event.pattern is not None:
        fields |= _field("pattern", event.pattern.encode("utf-8", "surrogateescape"))
    fields |= _field("channel", event.channel.encode("utf-8", "surrogateescape"))
    fields |= _field("data", event.data)
    return json.dumps(fields)


def _field(name: str, value: bytes) -> dict[str, str]:
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value).decode()}
