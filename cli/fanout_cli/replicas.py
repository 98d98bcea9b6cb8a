"""The subcommands of fanout-sidecar that tell discovery what databases consist of."""

import json
from typing import TYPE_CHECKING, Any

import attrs
import click

from fanout.config import FleetConfig
from fanout.config.readers import read_name
from fanout_cli.options import AS_JSON, Configured, checked, configured, run
from fanout_cli.tables import say

if TYPE_CHECKING:  # loaded only when it is needed
    from fanout.adjunct.replicas.records import DatabaseRecord


@click.group("replicas")
def replicas() -> None:
    """Primary and read replicas of the services' databases."""


_NAME = click.argument("name", callback=checked(read_name))
_WAIT = click.option(
    "--wait-seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=90.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait until all processes have let go of the primary. Raising it lets one "
    "that hangs keep the others from writing for longer.",
)
_JSON = click.option("--json", "as_json", is_flag=True, help=AS_JSON)
_FORCE = click.option(
    "--force",
    is_flag=True,
    help="Go on after that: only where the old primary is stopped or read-only.",
)


@replicas.command("set", cls=Configured, config=FleetConfig)
@_NAME
@click.option(
    "--primary",
    required=True,
    metavar="HOST:PORT",
    help="Where to write.",
)
@click.option(
    "--replica",
    "servers",
    multiple=True,
    metavar="HOST:PORT[=WEIGHT]",
    help="Where to read. Repeat it for each. A replica of weight 2 takes twice the reads of one "
    "of weight 1, which is the default; 0 takes none.",
)
@_WAIT
@_FORCE
@_JSON
def set_(
    *,
    config_file: str | None,
    name: str,
    primary: str,
    servers: tuple[str, ...],
    wait_seconds: float,
    force: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Tell all services which servers the database NAME consists of.

    With another primary than before nobody may write until every process that uses the database
    has let go of the old one. Ends with exit code 1 when one does not in time: then all is as
    before.
    """
    config = configured(FleetConfig, flags, config_file)
    named = [server.partition("=") for server in servers]
    weights: dict[str, Any] = {server: weight if equals else 1 for server, equals, weight in named}
    if len(weights) < len(servers):
        raise click.UsageError("a replica is named twice; name each once, with its weight")
    from fanout.adjunct.replicas.topology import set_topology  # noqa: PLC0415 - likewise

    async def change() -> int:
        record = await set_topology(
            config,
            name,
            primary=primary,
            replicas=weights,
            wait_seconds=wait_seconds,
            force=force,
        )
        text = f"{name} version {record.version}: primary {record.primary}"
        say(_as_json(record) if as_json else text)
        return 0

    run(change)


@replicas.command("hold", cls=Configured, config=FleetConfig)
@_NAME
@_WAIT
@_FORCE
@_JSON
def hold(
    *,
    config_file: str | None,
    name: str,
    wait_seconds: float,
    force: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Take the primary of the database NAME away until "set" names one; reads go on.

    When this ends with exit code 0 nobody writes any more, and the new primary can get the last of
    what the old one has. With exit code 1 all is as before.
    """
    config = configured(FleetConfig, flags, config_file)
    from fanout.adjunct.replicas.topology import hold_topology  # noqa: PLC0415 - likewise

    async def take_away() -> int:
        record = await hold_topology(config, name, wait_seconds=wait_seconds, force=force)
        text = f"{name} version {record.version}: no primary, was {record.former}"
        say(_as_json(record) if as_json else text)
        return 0

    run(take_away)


@replicas.command("show", cls=Configured, config=FleetConfig)
@_NAME
@_JSON
def show(*, config_file: str | None, name: str, as_json: bool, **flags: Any) -> None:
    """Show the servers of the database NAME, and which version each process has seen."""
    config = configured(FleetConfig, flags, config_file)
    from fanout.adjunct.replicas.topology import read_topology  # noqa: PLC0415 - likewise

    async def read() -> int:
        record, routers = await read_topology(config, name)
        if as_json:
            say(json.dumps({**attrs.asdict(record), "routers": routers}, indent=2))
            return 0
        say(f"{record.database} version {record.version}")
        say(f"primary  {record.primary or f'none, held; was {record.former}'}")
        for server, weight in record.replicas.items():
            say(f"replica  {server} weight {weight}")
        for router, version in routers.items():
            say(f"process  {router} version {version}")
        return 0

    run(read)


def _as_json(record: "DatabaseRecord") -> str:
    """Return what was written with the names that "show" uses."""
    names = ("database", "version", "primary", "former", "replicas")
    return json.dumps({name: getattr(record, name) for name in names}, indent=2, default=dict)
