"""The command fanout-sidecar."""

from typing import Any

import click

import fanout
from fanout.config import SidecarConfig
from fanout.errors import ConfigError
from fanout.runtime.local import run_local
from fanout.runtime.service import run_sidecar
from fanout_cli.options import add_options, fail, gather, run


@click.command(
    context_settings={"max_content_width": 100},
    epilog="Try it: fanout-sidecar --local 3",
)
@add_options(SidecarConfig)
@click.version_option(fanout.__version__)
def main(config_file: str | None, **flags: Any) -> None:
    """Serve Redis and websocket clients with the pub/sub of a whole fleet of Redis nodes.

    Every option is also read from the environment, as FANOUT_ and its name in capitals with
    underscores, and from a TOML file. A flag is stronger than the environment, which is stronger
    than the file. When everything is up one line is printed: "ready resp=... ws=... admin=...".
    SIGTERM or Ctrl-C leaves in order; a second one ends at once.
    """
    try:
        config = gather(SidecarConfig, flags, config_file)
    except ConfigError as error:
        fail(error)
        return
    run(run_local if config.local else run_sidecar, config)
