"""The command fanout-node."""

import json
from functools import partial
from typing import Any

import attrs
import click

import fanout
from fanout.config import FleetConfig, NodeConfig
from fanout_cli.options import Configured, Service, configured, run
from fanout_cli.tables import as_text


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

    run(partial(run_node, config), config)


@main.command("status", cls=Configured, config=FleetConfig)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status(config_file: str | None, as_json: bool, **flags: Any) -> None:  # noqa: FBT001
    """Show the fleet as discovery tells it.

    Ends with exit code 0 when the fleet is whole: every discovery instance answers, every node
    is active, covered and heard by every sidecar. Otherwise with 1, and says what is wrong.
    """
    config = configured(FleetConfig, flags, config_file)
    from fanout.runtime.fleet import read_fleet  # noqa: PLC0415 - not needed for help

    async def show() -> int:
        fleet = await read_fleet(config)
        click.echo(as_text(fleet) if not as_json else json.dumps(attrs.asdict(fleet), indent=2))
        return 0 if fleet.whole else 1

    run(show)


@main.command("drain", cls=Configured, config=FleetConfig)
@click.option("--id", "node", required=True, metavar="NODE", help="The node that is to leave.")
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
def drain(
    config_file: str | None,
    node: str,
    wait: bool,  # noqa: FBT001
    wait_seconds: float,
    force: bool,  # noqa: FBT001
    **flags: Any,
) -> None:
    """Ask a node to drain, from anywhere: publishers leave first, subscribers last.

    Its agent then ends, and so does the Redis that it started. Ends with exit code 1 when there
    is no such node, when it is the last active one, or when it is not gone in time.
    """
    config = configured(FleetConfig, flags, config_file)
    from fanout.runtime.fleet import ask_to_drain  # noqa: PLC0415 - not needed for help

    async def ask() -> int:
        seconds = wait_seconds if wait else 0.0
        await ask_to_drain(config, node, force=force, wait_seconds=seconds)
        click.echo(f"{node} is gone" if wait else f"{node} was asked to drain")
        return 0

    run(ask)
