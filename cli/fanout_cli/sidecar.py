"""The command fanout-sidecar."""

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import click

import fanout
from fanout.config import SidecarConfig
from fanout_cli.completion import completion
from fanout_cli.gateway import dns, gateway
from fanout_cli.options import Service, configured, needing, refuse, run
from fanout_cli.pubsub import pub, sub
from fanout_cli.purge import edge, purge
from fanout_cli.replicas import replicas
from fanout_cli.top import top

if TYPE_CHECKING:  # the runtime is imported only when it runs
    from fanout.runtime.sidecar.adjuncts import Adjunct


@click.command(
    "fanout-sidecar",
    cls=Service,
    config=SidecarConfig,
    epilog="Example: fanout-sidecar --local 3",
)
@click.version_option(fanout.__version__)
@click.pass_context
def main(context: click.Context, /, config_file: str | None, **flags: Any) -> None:
    """Serve Redis and websocket clients with the pub/sub of a fleet of Redis nodes.

    Flags override the environment, which overrides the file. When it serves clients the sidecar
    prints "ready resp=... ws=... admin=...". SIGTERM or Ctrl-C shuts down gracefully; a second one
    exits at once.
    """
    if context.invoked_subcommand is not None:
        return
    config = configured(SidecarConfig, flags, config_file)
    from fanout.runtime.local import run_local  # noqa: PLC0415 - not needed for --help
    from fanout.runtime.sidecar_service import run_sidecar  # noqa: PLC0415 - likewise

    main = run_local if config.local else run_sidecar
    run(partial(main, config, adjuncts=_adjuncts(config)), config)


def _adjuncts(config: SidecarConfig) -> "list[Adjunct]":
    """Return the adjuncts that the options turn on."""
    adjuncts: list[Adjunct] = []
    if config.gateway.gateway_pool or config.gateway.gateway_serve == "yes":
        why = "gateway-pool and gateway-serve require itsdangerous"
        with needing("itsdangerous", why=why, extra="gateway"):
            from fanout.adjunct.gateway import Gateway  # noqa: PLC0415 - an extra
        adjuncts.append(Gateway())
    return adjuncts


main.add_command(gateway)
main.add_command(dns)


@main.command("digest")
def digest() -> None:
    """Read a secret from standard input and print its digest for the file of --users.

    The secret is one line, without the newline. Use long random secrets, such as those of
    "openssl rand -base64 32".
    """
    secret = sys.stdin.readline().rstrip("\n")
    if not secret:
        refuse("standard input: no secret; write it on one line")
    from fanout.runtime.sidecar.authenticator import digest_of  # noqa: PLC0415 - not needed for --help

    click.echo(digest_of(secret.encode()))


for each in (edge, purge, replicas, sub, pub, top, completion):
    main.add_command(each)
