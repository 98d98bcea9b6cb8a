"""The subcommands replicas set and show of fanout-sidecar."""

import json
from typing import TYPE_CHECKING, Any

import click

from fanout.config import FleetConfig
from fanout.config.readers import read_name
from fanout_cli.options import AS_JSON, Configured, checked, configured, run
from fanout_cli.tables import say

if TYPE_CHECKING:  # loaded only when it is needed
    from fanout.adjunct.topology import DatabaseRecord


@click.group("replicas")
def replicas() -> None:
    """Set or show the primary and the read replicas of a database."""


_NAME = click.argument("name", callback=checked(read_name))
_JSON = click.option("--json", "as_json", is_flag=True, help=AS_JSON)


@replicas.command("set", cls=Configured, config=FleetConfig)
@_NAME
@click.option(
    "--primary",
    required=True,
    metavar="HOST:PORT",
    help="The primary. It gets writes once it is not read-only.",
)
@click.option(
    "--replica",
    "servers",
    multiple=True,
    metavar="HOST:PORT[=WEIGHT]",
    help="A read replica. Repeatable. A replica of weight 2 gets twice the reads of one of weight 1, "
    "the default; weight 0 gets none.",
)
@_JSON
def set_(
    *,
    config_file: str | None,
    name: str,
    primary: str,
    servers: tuple[str, ...],
    as_json: bool,
    **flags: Any,
) -> None:
    """Set the servers of the database NAME for all services, which switch at once.

    To replace a primary, make it read-only first: no write begins there from then on, and writes
    wait until the new primary is set here.
    """
    config = configured(FleetConfig, flags, config_file)
    named = [server.partition("=") for server in servers]
    weights: dict[str, Any] = {server: weight if equals else 1 for server, equals, weight in named}
    if len(weights) < len(servers):
        raise click.UsageError("a replica is given twice; give each once, with its weight")
    from fanout.adjunct.topology import set_topology  # noqa: PLC0415 - not needed for help

    async def change() -> int:
        say(_shown(await set_topology(config, name, primary=primary, replicas=weights), as_json))
        return 0

    run(change)


@replicas.command("show", cls=Configured, config=FleetConfig)
@_NAME
@_JSON
def show(*, config_file: str | None, name: str, as_json: bool, **flags: Any) -> None:
    """Show the servers of the database NAME from discovery."""
    config = configured(FleetConfig, flags, config_file)
    from fanout.adjunct.topology import read_topology  # noqa: PLC0415 - not needed for help

    async def read() -> int:
        say(_shown(await read_topology(config, name), as_json))
        return 0

    run(read)


def _shown(record: "DatabaseRecord", as_json: bool) -> str:  # noqa: FBT001
    if as_json:
        names = ("database", "version", "primary", "replicas")
        return json.dumps({name: getattr(record, name) for name in names}, indent=2)
    rows = [f"{record.database} version {record.version}", f"primary  {record.primary}"]
    rows += [f"replica  {server} weight {weight}" for server, weight in record.replicas.items()]
    return "\n".join(rows)
