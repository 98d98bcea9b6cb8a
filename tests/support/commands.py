"""The commands, run within the process of the tests."""

import click
from click.testing import CliRunner, Result


def invoke(main: click.Command, *arguments: str) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(main, arguments, prog_name="fanout", terminal_width=100)
