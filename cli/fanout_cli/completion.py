"""Shell completion of both commands: the script, and the completion of node ids."""

import attrs
import click
from click.shell_completion import get_completion_class

from fanout.config import FleetConfig
from fanout.errors import FanoutError
from fanout_cli.sources import gather

SHELLS = ("bash", "zsh", "fish")

DISCOVERY_SECONDS = 0.5
"""How long a completion waits for discovery; the shell hangs that long when it is down."""


@click.command("completion", epilog='Example: eval "$(fanout-sidecar completion bash)"')
@click.argument("shell", type=click.Choice(SHELLS), metavar="|".join(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell: subcommands, options and node ids.

    Evaluate it in ~/.bashrc or ~/.zshrc; for fish write it to
    ~/.config/fish/completions/COMMAND.fish.
    """
    command = context.find_root()
    name = command.info_name or ""
    variable = f"_{name.replace('-', '_').upper()}_COMPLETE"
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click has all of SHELLS
    script = kind(command.command, {}, name, variable)
    # Not `source()`: it starts the shell to check its version, and warns if it is not installed.
    click.echo(script.source_template % script.source_vars())


def node_ids(context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """Return the node ids that begin with `begun`; none if discovery fails or is slow."""
    flags = {name: value for name, value in context.params.items() if name in _SETTINGS}
    try:
        config = gather(FleetConfig, flags, context.params.get("config_file"))
    except FanoutError:
        return []
    return [each for each in _ask(config) if each.startswith(begun)]


_SETTINGS = frozenset(attrs.fields_dict(FleetConfig))


def _ask(config: FleetConfig) -> list[str]:
    import trio  # noqa: PLC0415 - slow to load

    from fanout.runtime.discovery.fleet import read_fleet  # noqa: PLC0415 - likewise
    from fanout.runtime.process.logs import configure_logging  # noqa: PLC0415 - likewise

    configure_logging("critical", "auto")

    async def ask() -> list[str]:
        with trio.move_on_after(DISCOVERY_SECONDS):
            bounded = attrs.evolve(config, timeout_seconds=DISCOVERY_SECONDS)
            return [node.id for node in (await read_fleet(bounded)).nodes]
        return []

    try:
        return trio.run(ask)
    except Exception:  # noqa: BLE001 - it would be printed into the command line
        return []
