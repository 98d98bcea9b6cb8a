"""The command fanout-node."""

import json
from functools import partial
from typing import Any

import click

import fanout
from fanout.config import FleetConfig, NodeConfig
from fanout_cli.completion import completion, node_ids
from fanout_cli.options import AS_JSON, Configured, Service, configured, refuse, run
from fanout_cli.tables import say

EVERY_SECONDS = 1.0
"""From one look of a watch to the next."""

EVERY_SECONDS_MIN = 0.1
"""Each look is a connection to every discovery instance."""


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
    from fanout.runtime.agent.node_service import run_node  # noqa: PLC0415 - not needed for help

    run(partial(run_node, config), config)


@main.command("status", cls=Configured, config=FleetConfig)
@click.option("--watch", is_flag=True, help="Look again and again, until q or Ctrl-C.")
@click.option(
    "--every-seconds",
    type=float,
    metavar="SECONDS",
    help="Time from one look to the next. Raising it spares discovery. Needs --watch.  [default: 1]",
)
@click.option("--json", "as_json", is_flag=True, help=AS_JSON + " With --watch: one a line.")
def status(
    *,
    config_file: str | None,
    watch: bool,
    every_seconds: float | None,
    as_json: bool,
    **flags: Any,
) -> None:
    """Show the fleet as discovery tells it.

    Ends with exit code 0 when the fleet is whole: every discovery instance answers, every node
    is active, covered and heard by every sidecar. Otherwise with 1, and says what is wrong. With
    --watch it is the last look that counts.
    """
    config = configured(FleetConfig, flags, config_file)
    if every_seconds is not None and not watch:
        refuse("every-seconds: not allowed without --watch; give --watch too")
    every = EVERY_SECONDS if every_seconds is None else every_seconds
    if not every >= EVERY_SECONDS_MIN:  # not a number is over nothing
        refuse(f"every-seconds: {every} is not allowed; give at least {EVERY_SECONDS_MIN}")
    from fanout.terminal.status import show_fleet, watch_fleet  # noqa: PLC0415 - not for help

    if watch:
        run(partial(watch_fleet, config, every, as_json=as_json))
    run(partial(show_fleet, config, as_json=as_json))


@main.command("drain", cls=Configured, config=FleetConfig)
@click.option(
    "--id",
    "node",
    required=True,
    metavar="NODE",
    shell_complete=node_ids,
    help="The node that is to leave.",
)
@click.option("--wait", is_flag=True, help="Wait until it is gone.")
@click.option(
    "--wait-seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=120.0,
    show_default=True,
    metavar="SECONDS",
    help="The longest wait.",
)
@click.option("--force", is_flag=True, help="Also when it is the last active node.")
@click.option("--json", "as_json", is_flag=True, help=AS_JSON)
def drain(
    *,
    config_file: str | None,
    node: str,
    wait: bool,
    wait_seconds: float,
    force: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Ask a node to drain, from anywhere: publishers leave first, subscribers last.

    Its agent then ends, and so does the Redis that it started. Ends with exit code 1 when there
    is no such node, when it is the last active one, or when it is not gone in time.
    """
    config = configured(FleetConfig, flags, config_file)
    from fanout.runtime.discovery.fleet import ask_to_drain  # noqa: PLC0415 - not needed for help

    async def ask() -> int:
        seconds = wait_seconds if wait else 0.0
        await ask_to_drain(config, node, force=force, wait_seconds=seconds)
        if as_json:
            say(json.dumps({"node": node, "gone": wait}))
        else:
            say(f"{node} is gone" if wait else f"{node} was asked to drain")
        return 0

    run(ask)


main.add_command(completion)
