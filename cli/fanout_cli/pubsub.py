"""The subcommands of fanout-sidecar that publish and subscribe."""

import sys
from functools import partial
from typing import Any

import click

from fanout.config import BridgeConfig
from fanout_cli.options import AS_JSON, Configured, configured, refuse, run

MESSAGE_BYTES_MAX = 64 * 1024 * 1024
"""Largest message read from standard input: no sidecar takes a larger one."""


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
    help="Also every channel that matches, as Redis matches. Repeat it for each.",
)
@click.option("--count", type=click.IntRange(min=1), metavar="COUNT", help="End after so many.")
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
    """Show the messages of CHANNELs, by way of a sidecar, until Ctrl-C.

    One line each, with what cannot be printed escaped; --json shows payloads exactly. A lost
    connection comes back by itself, and whatever may have been missed is said on standard error.
    Where the sidecar has users, the token stands in FANOUT_TOKEN or in a file.
    """
    config = configured(BridgeConfig, flags, config_file)
    if not channels and not patterns:
        refuse("CHANNEL: missing; give at least one, or --pattern PATTERN")
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
    """Publish MESSAGE on CHANNEL, by way of a sidecar, and print how many received it.

    A MESSAGE of - is read from standard input, to its end and byte by byte. Receivers are counted
    as for Redis clients: those of this sidecar, and each other sidecar with subscribers as one.
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
        refuse(f"MESSAGE: over {MESSAGE_BYTES_MAX} bytes; no sidecar takes so much at once")
    return data
