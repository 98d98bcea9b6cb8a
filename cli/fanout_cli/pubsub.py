"""The subcommands sub and pub of fanout-sidecar."""

import sys
from functools import partial
from typing import Any

import click

from fanout.config import BridgeConfig
from fanout_cli.options import AS_JSON, Configured, configured, refuse, run

MESSAGE_BYTES_MAX = 64 * 1024 * 1024
"""The largest message read from standard input: no sidecar accepts a larger one."""


@click.command(
    "sub",
    cls=Configured,
    config=BridgeConfig,
    epilog="Example: fanout-sidecar sub news --pattern 'sport.*'",
)
@click.argument("channels", nargs=-1, metavar="[CHANNEL]...")
@click.option(
    "--pattern",
    "patterns",
    multiple=True,
    metavar="PATTERN",
    help="Also subscribe to a pattern, as by PSUBSCRIBE. Repeatable.",
)
@click.option(
    "--count", type=click.IntRange(min=1), metavar="COUNT", help="Exit after COUNT messages."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object a line, gaps included."
)
def sub(
    *,
    config_file: str | None,
    channels: tuple[str, ...],
    patterns: tuple[str, ...],
    count: int | None,
    as_json: bool,
    **flags: Any,
) -> None:
    """Subscribe to CHANNELs through a sidecar and print their messages, until Ctrl-C.

    One line each, with unprintable characters escaped; --json prints payloads exactly. A lost
    connection is reopened; gaps, where messages may be missed, are reported on standard error.
    If the sidecar has users, set FANOUT_TOKEN, or token in the file of --config.
    """
    config = configured(BridgeConfig, flags, config_file)
    if not channels and not patterns:
        refuse("CHANNEL: missing; expected at least one, or --pattern PATTERN")
    from fanout.terminal.pubsub import subscribe  # noqa: PLC0415 - not needed for help

    run(partial(subscribe, config, channels, patterns, count=count, as_json=as_json))


@click.command(
    "pub",
    cls=Configured,
    config=BridgeConfig,
    epilog="Example: fanout-sidecar pub news hello",
)
@click.argument("channel")
@click.argument("message")
@click.option("--json", "as_json", is_flag=True, help=AS_JSON)
def pub(
    *, config_file: str | None, channel: str, message: str, as_json: bool, **flags: Any
) -> None:
    """Publish MESSAGE on CHANNEL through a sidecar and print the number of receivers.

    A MESSAGE of - is read from standard input, unchanged, to end of file. Receivers are counted as
    in the reply to PUBLISH: the clients of this sidecar, and one for each other sidecar with
    subscribers.
    """
    config = configured(BridgeConfig, flags, config_file)
    from fanout.terminal.pubsub import publish  # noqa: PLC0415 - not needed for help

    async def send() -> int:
        data = message.encode("utf-8", "surrogateescape") if message != "-" else _read_all()
        return await publish(config, channel, data, as_json=as_json)

    run(send)


def _read_all() -> bytes:
    data = sys.stdin.buffer.read(MESSAGE_BYTES_MAX + 1)
    if len(data) > MESSAGE_BYTES_MAX:
        refuse(f"MESSAGE: exceeds {MESSAGE_BYTES_MAX} bytes, which no sidecar accepts")
    return data
