"""The subcommand of fanout-sidecar that shows what goes through one."""

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
@click.option("--once", is_flag=True, help="Show one look and end.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def top(*, config_file: str | None, once: bool, as_json: bool, **flags: Any) -> None:
    """Show what goes through a sidecar, by node, client and channel, until q or Ctrl-C.

    Once a second, from the sidecar's admin door: messages a second that it publishes to each node
    and receives from it, that each client publishes and gets, and of the busiest channels; above
    them what is wrong. A terminal that is too small is shown fewer rows.
    """
    config = configured(TopConfig, flags, config_file)
    from fanout.terminal.top import show_top  # noqa: PLC0415 - not needed for help

    run(partial(show_top, config, once=once, as_json=as_json))
