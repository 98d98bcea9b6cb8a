"""The command fanout-node."""

from typing import Any

import click

import fanout
from fanout.config import NodeConfig
from fanout.errors import ConfigError
from fanout.runtime.node_service import run_node
from fanout_cli.options import add_options, fail, gather, run


@click.command(
    context_settings={"max_content_width": 100},
    epilog="Example: fanout-node --spawn 127.0.0.1:0 --discovery redis://10.0.0.5:6379",
)
@add_options(NodeConfig)
@click.version_option(fanout.__version__)
def main(config_file: str | None, **flags: Any) -> None:
    """Speak for one Redis node: report it to discovery and take it through join and drain.

    Every option is also read from the environment, as FANOUT_ and its name in capitals with
    underscores, and from a TOML file. A flag is stronger than the environment, which is stronger
    than the file. When the node is active one line is printed: "ready node=... state=active".
    SIGTERM or Ctrl-C drains the node; a second one ends at once.
    """
    try:
        config = gather(NodeConfig, flags, config_file)
    except ConfigError as error:
        fail(error)
        return
    run(run_node, config)
