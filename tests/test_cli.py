"""The commands' options: sources, strength, and what a wrong value says."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from fanout.config import NodeConfig, SidecarConfig, options
from fanout.errors import ConfigError
from fanout_cli.node import main as node_main
from fanout_cli.options import gather
from fanout_cli.sidecar import main as sidecar_main

URL = "redis://127.0.0.1:1"


def test_flag_beats_environment_beats_file_beats_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order of strength."""
    file = tmp_path / "fanout.toml"
    file.write_text(
        f'discovery = ["{URL}"]\nlease_seconds = 21\nclients_max = 22\ncluster = "from-file"\n'
    )
    monkeypatch.setenv("FANOUT_CLIENTS_MAX", "32")
    monkeypatch.setenv("FANOUT_CLUSTER", "from-env")
    config = gather(SidecarConfig, {"cluster": "from-flag"}, str(file))

    assert config.cluster == "from-flag"
    assert config.limits.clients_max == 32
    assert config.timings.lease_seconds == 21
    assert config.timings.heartbeat_interval_seconds == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--discovery", URL, "--clients-max", "none"], ["clients-max", "'none'", "1 to"]),
        (["--discovery", "http://x"], ["discovery", "http://x", "redis://HOST:PORT"]),
        (["--discovery", URL, "--resp", "nowhere"], ["resp", "nowhere", "HOST:PORT"]),
        (["--discovery", URL, "--lease-seconds", "1"], ["lease-seconds", "1", "twice"]),
        (["--discovery", URL, "--cluster", "a b"], ["cluster", "a b", "letters"]),
        (["--discovery", URL, "--local", "2"], ["discovery", "--local"]),
        ([], ["discovery", "--discovery URL"]),
        (["--discovery", URL, "--config", "/nonexistent"], ["config", "/nonexistent"]),
    ],
)
def test_a_wrong_value_says_which_why_and_what_is_allowed(
    arguments: list[str], words: list[str]
) -> None:
    """Exit code 2, one line, no traceback."""
    result = CliRunner().invoke(sidecar_main, arguments)

    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    for word in words:
        assert word in result.stderr


def test_the_source_of_a_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value from the environment is blamed on its variable."""
    monkeypatch.setenv("FANOUT_LEASE_SECONDS", "never")
    result = CliRunner().invoke(sidecar_main, ["--discovery", URL])

    assert result.exit_code == 2
    assert "FANOUT_LEASE_SECONDS" in result.stderr


def test_unknown_setting_in_a_file_suggests_the_known_one(tmp_path: Path) -> None:
    """A typing error in a file is found and explained."""
    file = tmp_path / "f.toml"
    file.write_text("lease_second = 3\n")
    with pytest.raises(ConfigError, match="lease_seconds"):
        gather(SidecarConfig, {"discovery": (URL,)}, str(file))


@pytest.mark.parametrize("main", [sidecar_main, node_main])
def test_a_password_on_the_command_line_is_refused(main: object) -> None:
    """It would stand in the process list; and it is not repeated in the message either."""
    result = CliRunner().invoke(main, ["--discovery", "redis://u:canary@h:1"])  # type: ignore[arg-type]

    assert result.exit_code == 2
    assert "canary" not in result.output + result.stderr
    assert "FANOUT_DISCOVERY" in result.stderr


def test_a_password_is_never_shown() -> None:
    """Neither the text nor the representation of a configuration holds a secret."""
    config = NodeConfig.from_mapping(
        {
            "id": "n",
            "spawn": "127.0.0.1:0",
            "discovery": ["redis://u:canary@h:1,redis://:canary@r:2"],
        }
    )

    assert config.discovery[0].replicas[0].password == "canary"
    assert "canary" not in f"{config} {config!r} {config.discovery[0].primary}"


@pytest.mark.parametrize(
    ("main", "config"), [(sidecar_main, SidecarConfig), (node_main, NodeConfig)]
)
def test_help_names_every_option(main: object, config: type) -> None:
    """Help lists every setting with its unit and cost."""
    text = CliRunner().invoke(main, ["--help"]).output  # type: ignore[arg-type]

    for name in options(config):
        assert f"--{name.replace('_', '-')}" in text
