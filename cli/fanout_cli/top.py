"""The subcommand top of fanout-sidecar."""

from functools import partial
from typing import Any

import click

from fanout.config import TopConfig
from fanout_cli.options import Configured, configured, run


@click.command(
    "top",
    cls=Configured,
    config=TopConfig,
    epilog="Example: fanout-sidecar top --admin-url http://127.0.0.1:9380/",
)
@click.option("--once", is_flag=True, help="Show one snapshot and exit.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def top(*, config_file: str | None, once: bool, as_json: bool, **flags: Any) -> None:
    """Show the message rates of a sidecar by node, client and channel, until q or Ctrl-C.

    Reads the sidecar's admin door. Every second it shows problems, then messages per second: published
    to and received from each node, published by and delivered to each client, and of the busiest
    channels. Rows that do not fit the terminal are left out.
    """
    config = configured(TopConfig, flags, config_file)
    from fanout.terminal.top import show_top  # noqa: PLC0415 - not needed for help

    run(partial(show_top, config, once=once, as_json=as_json))
