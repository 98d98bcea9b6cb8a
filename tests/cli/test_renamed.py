"""Renamed options: the former name works in every source, with a warning, for one release."""

import json
from pathlib import Path
from typing import Any

import attrs
import click
import pytest
from click.testing import CliRunner, Result

from fanout.config import Configuration, FleetConfig, NodeConfig, SidecarConfig, option
from fanout.config.readers import read_text
from fanout.errors import ConfigError
from fanout_cli.node import main as node_main
from fanout_cli.sidecar import main as sidecar_main
from fanout_cli.sources import gather
from tests.support.commands import invoke

BASE = ("--discovery", "redis://127.0.0.1:1", "--admin", "0.0.0.0:1")
SERVICES = [
    (sidecar_main, "fanout.runtime.sidecar_service.run_sidecar", BASE),
    (node_main, "fanout.runtime.agent.node_service.run_node", (*BASE, "--spawn", "127.0.0.1:0")),
]
FORMER = {
    "flag": "flag --serve-anybody",
    "environment": "environment variable FANOUT_SERVE_ANYBODY",
    "file": "serve_anybody in file",
}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unset the environment variables of the renamed option."""
    for name in ("CONFIG", "SERVE_ANYBODY", "ALLOW_UNAUTHENTICATED", "LOG_FORMAT"):
        monkeypatch.delenv(f"FANOUT_{name}", raising=False)


def give(
    source: str, name: str, value: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """Give an option by a source; return the arguments that this takes."""
    if source == "flag":
        return [f"--{name.replace('_', '-')}", value]
    if source == "environment":
        monkeypatch.setenv(f"FANOUT_{name.upper()}", value)
        return []
    file = folder / "fanout.toml"
    file.write_text(f'{name} = "{value}"\n')
    return ["--config", str(file)]


def run(
    service: tuple[click.Command, str, tuple[str, ...]],
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[Result, list[Any]]:
    """Run a command whose service ends at once; return its result and its configuration."""
    main, path, base = service
    configs: list[Any] = []

    async def fake(config: Any, **_: object) -> int:
        configs.append(config)
        return 0

    monkeypatch.setattr(path, fake)
    return invoke(main, *base, *arguments), configs


@pytest.mark.parametrize("service", SERVICES, ids=["sidecar", "node"])
@pytest.mark.parametrize("source", FORMER)
def test_the_former_name_works_with_a_warning(
    service: tuple[click.Command, str, tuple[str, ...]],
    source: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One line on stderr names both names and the source, and the log has an event."""
    arguments = give(source, "serve_anybody", "yes", tmp_path, monkeypatch)
    result, configs = run(service, [*arguments, "--log-format", "json"], monkeypatch)
    warning, event = result.stderr.splitlines()

    assert (result.exit_code, result.stdout) == (0, "")
    assert [config.allow_unauthenticated for config in configs] == ["yes"]
    assert warning.startswith("Warning: serve-anybody is now allow-unauthenticated; ")
    assert f"from {FORMER[source]}" in warning
    said = json.loads(event)
    assert (said["event"], said["level"]) == ("option_renamed", "warning")
    assert (said["former"], said["now"]) == ("serve-anybody", "allow-unauthenticated")


@pytest.mark.parametrize("service", SERVICES, ids=["sidecar", "node"])
@pytest.mark.parametrize("source", FORMER)
def test_the_new_name_works_without_a_warning(
    service: tuple[click.Command, str, tuple[str, ...]],
    source: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing on stderr."""
    arguments = give(source, "allow_unauthenticated", "yes", tmp_path, monkeypatch)
    result, configs = run(service, arguments, monkeypatch)

    assert (result.exit_code, result.output) == (0, "")
    assert [config.allow_unauthenticated for config in configs] == ["yes"]


@pytest.mark.parametrize("service", SERVICES, ids=["sidecar", "node"])
@pytest.mark.parametrize(
    ("former", "now"),
    [
        ("flag", "flag"),
        ("flag", "environment"),
        ("environment", "flag"),
        ("file", "flag"),
        ("environment", "file"),
    ],
)
def test_both_names_at_once_are_refused(
    service: tuple[click.Command, str, tuple[str, ...]],
    former: str,
    now: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With exit code 2 and both sources, also if the values are the same."""
    arguments = give(former, "serve_anybody", "yes", tmp_path, monkeypatch)
    arguments += give(now, "allow_unauthenticated", "yes", tmp_path, monkeypatch)
    result, configs = run(service, arguments, monkeypatch)

    assert (result.exit_code, result.stdout, configs) == (2, "", [])
    assert result.stderr.startswith("Error: allow-unauthenticated: also given by its former name")
    assert FORMER[former] in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_wrong_value_is_blamed_on_the_source_of_the_former_name() -> None:
    """The error has the new name, which is in the documentation, and the source as it was given."""
    refused = CliRunner().invoke(sidecar_main, [*BASE, "--serve-anybody", "maybe"])

    assert refused.exit_code == 2
    assert "allow-unauthenticated: invalid value 'maybe'" in refused.stderr
    assert "(from flag --serve-anybody)" in refused.stderr


@pytest.mark.parametrize("service", SERVICES, ids=["sidecar", "node"])
def test_help_has_the_former_name_as_a_note_only(
    service: tuple[click.Command, str, tuple[str, ...]],
) -> None:
    """It is no entry of the list of options."""
    text = CliRunner().invoke(service[0], ["--help"], terminal_width=100).output
    flat = " ".join(text.split())

    assert flat.count("serve-anybody") == 1
    assert "FANOUT_ALLOW_UNAUTHENTICATED; default: no; formerly --serve-anybody]" in flat


def test_subcommands_skip_former_names_of_the_services_in_a_shared_file(tmp_path: Path) -> None:
    """As they skip current names."""
    file = tmp_path / "fanout.toml"
    file.write_text('serve_anybody = "yes"\ndiscovery = "redis://h:1"\n')

    assert gather(FleetConfig, {}, str(file)).cluster == "default"
    assert gather(SidecarConfig, {}, str(file)).allow_unauthenticated == "yes"
    node = gather(NodeConfig, {"spawn": "127.0.0.1:0"}, str(file))
    assert node.allow_unauthenticated == "yes"


@attrs.frozen(kw_only=True)
class Renamed(Configuration):
    """Options of which a secret and a repeatable one were renamed."""

    key: str = option("", read_text, "TEXT", "A secret.", secret=True, formerly="old_key")
    names: tuple[str, ...] = option(
        (), tuple, "NAME", "Names.", repeatable=True, formerly="old_names"
    )


def test_a_secret_is_refused_as_a_flag_by_its_former_name_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The environment takes it; the error does not repeat it."""
    with pytest.raises(ConfigError, match="old-key: a password on the command line") as caught:
        gather(Renamed, {"old_key": "canary"}, None)
    assert "canary" not in str(caught.value)

    monkeypatch.setenv("FANOUT_OLD_KEY", "canary")
    assert gather(Renamed, {"old_names": ("a", "b")}, None) == Renamed(
        key="canary", names=("a", "b")
    )
