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
"""Default refresh interval of `status --watch`."""

EVERY_SECONDS_MIN = 0.1
"""Lower bound of the refresh interval: each refresh connects to every discovery instance."""


@click.command(
    "fanout-node",
    cls=Service,
    config=NodeConfig,
    epilog="Example: fanout-node --spawn 127.0.0.1:0 --discovery redis://10.0.0.5:6379",
)
@click.version_option(fanout.__version__)
@click.pass_context
def main(context: click.Context, /, config_file: str | None, **flags: Any) -> None:
    """Run the agent of one Redis node: register it in discovery, let it join and drain it.

    Flags override the environment, which overrides the file. When the node is active the agent
    prints "ready node=... state=active". SIGTERM or Ctrl-C drains the node; a second one exits at
    once.
    """
    if context.invoked_subcommand is not None:
        return
    config = configured(NodeConfig, flags, config_file)
    from fanout.runtime.agent.node_service import run_node  # noqa: PLC0415 - not needed for --help

    run(partial(run_node, config), config)


@main.command("status", cls=Configured, config=FleetConfig)
@click.option("--watch", is_flag=True, help="Refresh until q or Ctrl-C.")
@click.option(
    "--every-seconds",
    type=float,
    metavar="SECONDS",
    help="Refresh interval of --watch. Raising it lowers the load on discovery.  [default: 1]",
)
@click.option("--json", "as_json", is_flag=True, help=AS_JSON + " With --watch: one per line.")
def status(
    *,
    config_file: str | None,
    watch: bool,
    every_seconds: float | None,
    as_json: bool,
    **flags: Any,
) -> None:
    """Show the fleet as it is registered in discovery.

    Exits with 0 when the fleet is healthy: every discovery instance answers, and every node is
    active, covered and heard by every sidecar. Otherwise prints the problems and exits with 1.
    With --watch the last refresh counts.
    """
    config = configured(FleetConfig, flags, config_file)
    if every_seconds is not None and not watch:
        refuse("every-seconds: requires --watch")
    every = EVERY_SECONDS if every_seconds is None else every_seconds
    if not every >= EVERY_SECONDS_MIN:  # also refuses nan
        refuse(f"every-seconds: invalid value {every}: expected at least {EVERY_SECONDS_MIN}")
    from fanout.terminal.status import show_fleet, watch_fleet  # noqa: PLC0415 - not for --help

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
    help="Id of the node to drain.",
)
@click.option("--wait", is_flag=True, help="Wait until the node has left.")
@click.option(
    "--wait-seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=120.0,
    show_default=True,
    metavar="SECONDS",
    help="Timeout of --wait.",
)
@click.option("--force", is_flag=True, help="Drain even the last active node.")
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
    """Request a node to drain: publishers leave it first, subscribers last.

    The agent of the node then exits, and so does a Redis that it started. Exits with 1 when the
    node does not exist, is the last active one, or has not left within --wait-seconds.
    """
    config = configured(FleetConfig, flags, config_file)
    from fanout.runtime.discovery.fleet import ask_to_drain  # noqa: PLC0415 - not needed for --help

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
