"""Completion by the shell: what `completion` prints makes a real bash complete."""

import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from fanout_cli.completion import SHELLS
from fanout_cli.node import main as node_main
from fanout_cli.options import Service
from fanout_cli.sidecar import main as sidecar_main
from tests.support.live.fleet import Fleet, command

pytestmark = pytest.mark.live


def completed(*words: str, env: dict[str, str] | None = None) -> list[str]:
    """Return what bash offers for a line of words, the last of which is begun."""
    name = words[0]
    function = f"_{name.replace('-', '_')}_completion"
    script = (
        f'set -e; eval "$({name} completion bash)"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
        f'{function} {name}; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    path = f"{Path(command(name)).parent}:/usr/bin:/bin"
    done = subprocess.run(
        ["bash", "-c", script, "bash", *words],
        capture_output=True, text=True, check=True, timeout=60, env={"PATH": path, **(env or {})},
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.split()


def test_subcommands_and_options_are_completed() -> None:
    """Of both commands; what takes a file completes names of files."""
    assert completed("fanout-node", "dr") == ["drain"]
    assert completed("fanout-node", "status", "--w") == ["--watch"]
    assert completed("fanout-sidecar", "s") == ["sub"]
    assert completed("fanout-sidecar", "completion", "f") == ["fish"]


def test_ids_of_nodes_are_completed(fleet: Fleet) -> None:
    """As discovery tells them, wherever its address stands; silence offers nothing, and soon."""
    fleet.add_discovery()
    fleet.node("alpha")
    fleet.node("beta")
    (url,) = fleet.discovery
    drain = ("fanout-node", "drain")

    assert completed(*drain, "--discovery", url, "--id", "") == ["alpha", "beta"]
    assert completed(*drain, "--id", "b", env={"FANOUT_DISCOVERY": url}) == ["beta"]
    for wrong in ("redis://127.0.0.1:1", "nonsense", "redis://10.255.255.1:1"):
        assert completed(*drain, "--id", "", env={"FANOUT_DISCOVERY": wrong}) == []
    assert completed(*drain, "--id", "") == []


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("main", [node_main, sidecar_main])
def test_every_shell_has_a_script(shell: str, main: Service) -> None:
    """It asks this command, in this shell's way."""
    name = main.name or ""
    found = CliRunner().invoke(main, ["completion", shell], prog_name=name)
    variable = f"_{name.upper().replace('-', '_')}_COMPLETE"

    assert found.exit_code == 0
    assert f"{variable}={shell}_complete" in found.output
