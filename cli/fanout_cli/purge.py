"""The subcommands of fanout-sidecar that purge caches."""

import json
from functools import partial
from typing import Any

import click

from fanout.config import EdgeConfig, PurgeConfig
from fanout.config.readers import read_name
from fanout_cli.options import AS_JSON, Configured, checked, configured, refuse, run
from fanout_cli.tables import purge_text, purge_values, say


@click.command(
    "edge",
    cls=Configured,
    config=EdgeConfig,
    epilog="Example: fanout-sidecar edge --cache varnish --cache-url http://127.0.0.1:6081",
)
def edge(config_file: str | None, **flags: Any) -> None:
    """Apply published purges to the cache on this machine.

    Run it beside each cache, with a sidecar nearby. Prints one line once everything cached before is
    purged: "ready edge=... cache=...". Stops on SIGTERM or Ctrl-C.
    """
    config = configured(EdgeConfig, flags, config_file)
    from fanout.adjunct.edge import run_edge  # noqa: PLC0415 - not needed for help

    run(partial(run_edge, config), config)


@click.command(
    "purge",
    cls=Configured,
    config=PurgeConfig,
    epilog="Example: fanout-sidecar purge key article-7 --wait 10",
)
@click.argument("kind", type=click.Choice(["url", "key", "all"]), metavar="url|key|all")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--wait",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Wait for the reports of the edges, at most this long, and show them.",
)
@click.option(
    "--expect",
    multiple=True,
    callback=checked(read_name),
    metavar="EDGE",
    help="An edge that must report. Repeatable. Requires --wait. Default: the edges that report.",
)
@click.option("--json", "as_json", is_flag=True, help=AS_JSON)
def purge(  # noqa: PLR0917 - click calls it by name
    config_file: str | None,
    kind: str,
    names: tuple[str, ...],
    wait: float | None,
    expect: tuple[str, ...],
    as_json: bool,  # noqa: FBT001
    **flags: Any,
) -> None:
    """Purge pages from all caches of a pool: by URL, by surrogate key, or all of them.

    Without --wait it exits once the purge is published. With --wait, the exit code is 0 if every edge
    has applied the purge, and 1 if an edge failed, an expected edge did not report, or none did.
    """
    config = configured(PurgeConfig, flags, config_file)
    if expect and wait is None:
        refuse("expect: requires --wait SECONDS")
    from fanout.adjunct.purge import REPORTS, Kind, Target, by_url, send_purge  # noqa: PLC0415 - not needed for help
    from fanout.terminal.call import open_call  # noqa: PLC0415 - likewise

    async def ask() -> int:
        target = by_url(*names) if kind == "url" else Target(Kind(kind), names)
        async with open_call(config) as call:
            if wait:
                await call.client.subscribe(REPORTS + config.pool)
                call.reached()  # --wait limits the rest
            answers = await send_purge(
                call.client,
                target,
                origin=config.id,
                pool=config.pool,
                wait_seconds=wait or 0.0,
                expected=expect,
            )
        values = purge_values(answers)
        if as_json:
            say(json.dumps(values, indent=2))
        elif wait:
            say(purge_text(values))
        else:
            say(f"purge {answers.purge.id} published")
        return 0 if answers.whole or not wait else 1

    run(ask)
