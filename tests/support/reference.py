"""Writes docs/configuration.md from the commands' own tables: `python -m tests.support.reference`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fanout.config import flag
from fanout_cli.node import main as node_main
from fanout_cli.options import Configured, Service, variable
from fanout_cli.sidecar import main as sidecar_main

PAGE = Path(__file__).parents[2] / "docs/configuration.md"

HEAD = """\
# Configuration

<!-- Written by python -m tests.support.reference: change the options, not this page. -->

Every option is a flag, a variable of the environment, and a key of a TOML file that `--config` or
`FANOUT_CONFIG` names: `--lease-seconds 5`, `FANOUT_LEASE_SECONDS=5`, `lease_seconds = 5`. A flag is
stronger than the environment, which is stronger than the file, which is stronger than the default. What
may be given several times is repeated as a flag, a list in a file, and separated by spaces in the
environment.

Secrets, and URLs with passwords, are refused as flags: every user of a machine can read them there.
A setting that is wrong, or does not exist, ends the command with exit code 2 and a line that names it
and where it came from.
"""


def commands() -> Iterator[tuple[str, Configured]]:
    """Yield the name and the object of each command that has settings."""
    services: dict[str, Service] = {"fanout-node": node_main, "fanout-sidecar": sidecar_main}
    for name, service in services.items():
        yield name, service
        for sub, command in service.commands.items():
            if isinstance(command, Configured):
                yield f"{name} {sub}", command


def row(name: str, field: Any) -> str:
    """Return a line of a table."""
    data = field.metadata
    default = field.default
    shown = f"{default:g}" if isinstance(default, float) else str(default)
    shown = "" if default in (None, "", ()) else f"`{shown}`"
    text = data["help"].replace("|", "\\|")
    text += " May be repeated." if data["repeatable"] and "epeat" not in text else ""
    where = f"`{name}`, `{variable(name)}`" if data["secret"] else f"`--{flag(name)}`"
    metavar = data["metavar"].replace("|", "\\|")
    return f"| {where} | {metavar} | {shown} | {text} |"


def page() -> str:
    """Return the whole page. A group that a command shares with an earlier one is named there."""
    parts = [HEAD]
    seen: dict[tuple[str, ...], str] = {}
    for name, command in commands():
        parts.append(f"\n## {name}\n")
        for title, group in command._groups.items():
            lines = tuple(row(each, field) for each, field in group.items())
            if first := seen.get(lines):
                parts.append(f"\n### {title} of {name}\n\nAs those of {first}.\n")
                continue
            seen[lines] = name
            parts.append(f"\n### {title} of {name}\n\n| option | form | default | meaning |\n")
            parts.append("|---|---|---|---|\n" + "".join(f"{line}\n" for line in lines))
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
