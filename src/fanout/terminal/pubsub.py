"""Publishing and subscribing from a terminal, by way of a sidecar's websocket door."""

import base64
import json
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import attrs
import trio

from fanout.client import Client, Event, Gap, Message, open_client
from fanout.config import BridgeConfig, TlsFiles
from fanout.errors import RequestFailed, leaves
from fanout.runtime.certificates import Contexts
from fanout.runtime.text import escape
from fanout.terminal.output import palette, tell, wait_closed, write
from fanout.terminal.table import DIM, Palette

GAPS = {
    "lost": "is not heard: messages may be missed from now on",
    "heard": "is heard again: what was published on it before may be missed",
    "left": "is given up: what was published on it last may be missed",
    "reconnected": "connected again: what was published meanwhile is missed",
    "overflow": "messages came faster than they were written, and some are missed",
}
"""What each reason of a gap means."""


async def publish(config: BridgeConfig, channel: str, data: bytes, *, as_json: bool) -> int:
    """Publish one message and write how many received it; return the exit code.

    Raises:
        ConfigError: a file of certificates cannot be read.
        OutputFailed: nobody reads what is written.
        RequestFailed: it was not published, or nobody knows. Code `no_sidecar`: no connection.

    """
    async with _open(config) as call:
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
    """Write messages, one a line, until there were `count`; return the exit code.

    What may be missed is told on standard error, and between the messages too `as_json`. A
    connection that is lost later comes back by itself.

    Raises:
        ConfigError: a file of certificates cannot be read.
        OutputFailed: nobody reads what is written.
        RequestFailed: it is not allowed. Code `no_sidecar`: no connection at the start.

    """
    colours = palette()
    async with _open(config) as call:
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
    """Return what people are told of a gap."""
    meaning = GAPS.get(gap.reason, f"messages may be missed ({escape(gap.reason)})")
    return f"gap: {escape(gap.node)} {meaning}" if gap.node else f"gap: {meaning}"


def message_text(message: Message, *, palette: Palette) -> str:
    """Return a message on one line: its channel, its pattern if one matched, its payload."""
    by = "" if message.pattern is None else f" ({escape(message.pattern)})"
    head = palette.paint(f"{escape(message.channel)}{by}", DIM)
    return f"{head}  {escape(message.data.decode(errors='backslashreplace'))}"


def event_json(event: Event) -> str:
    """Return an event as the bridge itself writes it, see docs/websocket.md."""
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


@attrs.define(eq=False)
class _Call:
    """A client of a sidecar that has to be there in time."""

    config: BridgeConfig
    client: Client = attrs.field(init=False)
    deadline: trio.CancelScope = attrs.field(init=False)
    _reached: bool = attrs.field(default=False, init=False)
    _trouble: str = attrs.field(default="", init=False)  # what was told last

    def reached(self) -> None:
        """Note that the sidecar has answered: from now on a lost connection is only told."""
        self._reached = True
        self.deadline.deadline = math.inf

    def told(self, why: str) -> None:
        """Take why there is no connection. At first that is an error: somebody can mend it."""
        if not self._reached:
            raise self.failure(why)
        if why != self._trouble:
            tell(f"no connection to {self.config.sidecar}, trying again: {escape(why)}")
        self._trouble = why

    def failure(self, why: str) -> RequestFailed:
        """Return the error that the sidecar cannot be spoken to."""
        url = self.config.sidecar
        trust = ", or say by --tls-ca whom to trust" if url.startswith("wss:") else ""
        way_out = f"start one there, or name another by --sidecar{trust}"
        return RequestFailed("no_sidecar", f"{url} does not answer: {escape(why)}; {way_out}")


@asynccontextmanager
async def _open(config: BridgeConfig) -> AsyncIterator[_Call]:
    """Call a sidecar. Raises ConfigError, and RequestFailed with the way out."""
    call = _Call(config)
    contexts = Contexts(TlsFiles.of(config))
    context = contexts.client if config.sidecar.startswith("wss:") else None
    try:
        async with open_client(
            config.sidecar, token=config.token, ssl_context=context, told=call.told
        ) as call.client:
            with trio.move_on_after(config.timeout_seconds) as call.deadline:
                yield call
            if call.deadline.cancelled_caught:
                raise call.failure(f"silent for {config.timeout_seconds:g} seconds")
    except* RequestFailed as group:
        failure = leaves(group)[0]
        assert isinstance(failure, RequestFailed)  # noqa: S101 - the group holds nothing else
        raise _explained(config, failure) from None


def _explained(config: BridgeConfig, failure: RequestFailed) -> RequestFailed:
    """Return a failure; one that asks for a login says how to give one."""
    if failure.code != "unauthenticated":
        return failure
    why = "the token is nobody's" if config.token else "the sidecar has users"
    return RequestFailed(
        failure.code, f"{why}; give a user's secret in FANOUT_TOKEN, or in a file by --config"
    )
