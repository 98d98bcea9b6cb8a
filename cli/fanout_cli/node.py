"""The command fanout-node."""

from typing import Any

import click

import fanout
from fanout.config import NodeConfig
from fanout_cli.options import Service, configured, run


@click.command(
    "fanout-node",
    cls=Service,
    config=NodeConfig,
    epilog="Example: fanout-node --spawn 127.0.0.1:0 --discovery redis://10.0.0.5:6379",
)
@click.version_option(fanout.__version__)
@click.pass_context
def main(context: click.Context, /, config_file: str | None, **flags: Any) -> None:
    """Speak for one Redis node: report it to discovery and take it through join and drain.

    A flag is stronger than the environment, which is stronger than the file. When the node is
    active one line is printed: "ready node=... state=active". SIGTERM or Ctrl-C drains the node;
    a second one ends at once.
    """
    if context.invoked_subcommand is not None:
        return
    config = configured(NodeConfig, flags, config_file)
    from fanout.runtime.node_service import run_node  # noqa: PLC0415 - not needed for help

    run(run_node, config)
