"""The subcommands of fanout-sidecar for pools of instances that users are handed out to."""

import json
from functools import partial
from typing import Any

import click

from fanout.config import DnsConfig, FleetConfig
from fanout.terminal.table import Column, as_table
from fanout_cli.options import AS_JSON, Configured, configured, needing, run
from fanout_cli.tables import say

_COLUMNS = tuple(map(Column, ("POOL", "INSTANCE", "STATE", "ADDRESS", "WEIGHT", "DNS")))


@click.group("gateway")
def gateway() -> None:
    """Look at the pools of instances that users are handed out to."""


@gateway.command("status", cls=Configured, config=FleetConfig)
@click.argument("pool", required=False)
@click.option("--json", "as_json", is_flag=True, help=AS_JSON)
def status(config_file: str | None, pool: str | None, as_json: bool, **flags: Any) -> None:  # noqa: FBT001
    """Show the instances of POOL, or of all pools, as discovery tells them.

    Ends with exit code 0 when there is a pool and each has an active instance, otherwise with 1.
    """
    config = configured(FleetConfig, flags, config_file)
    from fanout.adjunct.gateway.status import read_pools  # noqa: PLC0415 - not needed for help

    async def show() -> int:
        pools = await read_pools(config, pool)
        if as_json:
            say(json.dumps(pools, indent=2))
        else:
            rows = [
                (
                    name,
                    str(each["instance"]),
                    str(each["state"]),
                    str(each["address"]),
                    str(each["weight"]),
                    ", ".join(each["ips"]) or "-",
                )
                for name, instances in pools.items()
                for each in instances
            ]
            say("\n".join(as_table(_COLUMNS, rows)))
        served = [any(each["state"] == "active" for each in found) for found in pools.values()]
        return 0 if served and all(served) else 1

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

    By dynamic updates (RFC 2136), signed with a TSIG key. The last addresses are never removed,
    and nothing is changed while discovery cannot be read. Several of these may run for one name.
    When the name is as it should be one line is printed: "ready name=... addresses=...".
    """
    config = configured(DnsConfig, flags, config_file)
    with needing("dns", why="dns needs dnspython", extra="gateway"):
        from fanout.adjunct.gateway.dns import keep_name  # noqa: PLC0415 - not needed for help
    run(partial(keep_name, config), config)
