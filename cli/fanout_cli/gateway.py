"""The subcommands gateway and dns of fanout-sidecar."""

import json
from functools import partial
from typing import Any

import attrs
import click

from fanout.config import DnsConfig, FleetConfig
from fanout.terminal.table import Column, as_table
from fanout_cli.options import AS_JSON, Configured, configured, needing, run
from fanout_cli.tables import say

_COLUMNS = tuple(map(Column, ("POOL", "INSTANCE", "STATE", "ADDRESS", "WEIGHT", "DNS")))


@click.group("gateway")
def gateway() -> None:
    """Show the pools of instances that users are assigned to."""


@gateway.command("status", cls=Configured, config=FleetConfig)
@click.argument("pool", required=False)
@click.option("--json", "as_json", is_flag=True, help=AS_JSON)
def status(config_file: str | None, pool: str | None, as_json: bool, **flags: Any) -> None:  # noqa: FBT001
    """Show the instances of POOL, or of all pools, from discovery.

    The exit code is 0 if there is a pool and every pool has an active instance, otherwise 1.
    """
    config = configured(FleetConfig, flags, config_file)
    with needing("itsdangerous", why="gateway status needs itsdangerous", extra="gateway"):
        from fanout.adjunct.gateway import INSTANCES, GatewayError  # noqa: PLC0415 - not for help
    from fanout.runtime.discovery.watch import open_watch  # noqa: PLC0415 - likewise

    async def show() -> int:
        async with open_watch(config, (INSTANCES,)) as (_, watch):
            found = [each for _, each in sorted(watch.members(INSTANCES).items())]
        known = sorted({each.pool for each in found})
        if pool is not None and pool not in known:
            raise GatewayError(
                "NOPOOL",
                f"no pool {pool!r} in cluster {config.cluster}; "
                f"known: {', '.join(known) or 'none'}",
            )
        found = [each for each in found if pool in (None, each.pool)]
        if as_json:
            pools: dict[str, list[dict[str, Any]]] = {}
            for each in found:
                values = {**attrs.asdict(each), "state": each.state.value}
                pools.setdefault(each.pool, []).append(values)
            say(json.dumps(pools, indent=2))
        else:
            rows = [
                (
                    each.pool,
                    each.instance,
                    each.state.value,
                    each.address,
                    str(each.weight),
                    ", ".join(each.ips) or "-",
                )
                for each in found
            ]
            say("\n".join(as_table(_COLUMNS, rows)))
        served = {each.pool for each in found if each.state.value == "active"}
        return 0 if served and served == {each.pool for each in found} else 1

    run(show)


@click.command(
    "dns",
    cls=Configured,
    config=DnsConfig,
    epilog="Example: fanout-sidecar dns --pool web --zone example.org --server 10.0.0.53 "
    "--discovery redis://10.0.0.5:6379, with the key in FANOUT_DNS_KEY",
)
def dns(config_file: str | None, **flags: Any) -> None:
    """Keep a name in DNS equal to the active instances of a pool.

    Sends dynamic updates (RFC 2136), signed with a TSIG key. The last addresses are never removed,
    and nothing is changed while discovery cannot be read. Several updaters may run for one name.
    Prints one line after the first update: "ready name=... addresses=...".
    """
    config = configured(DnsConfig, flags, config_file)
    with needing("dns", "itsdangerous", why="dns needs dnspython", extra="gateway"):
        from fanout.adjunct.dns import keep_name  # noqa: PLC0415 - not needed for help
    run(partial(keep_name, config), config)
