"""The files that servers are set up with, as the tests read them."""

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from fanout.config import NodeConfig, SidecarConfig, options
from fanout_cli.node import main as node_main
from fanout_cli.sidecar import main as sidecar_main
from fanout_cli.sources import gather, variable

DOCS = Path(__file__).parents[2] / "docs"
OPS = DOCS / "ops"
COMMANDS: dict[str, tuple[Any, Any]] = {
    "fanout-node": (node_main, NodeConfig),
    "fanout-sidecar": (sidecar_main, SidecarConfig),
}
SECRET = "canary of the fleet"

Unit = dict[str, list[str]]


def compose() -> dict[str, Any]:
    """Return the services of the compose file, by name."""
    text = (OPS / "container/compose.yaml").read_text()
    services: dict[str, Any] = yaml.safe_load(text)["services"]
    return services


def manifests() -> list[dict[str, Any]]:
    """Return all objects for Kubernetes."""
    files = sorted((OPS / "kubernetes").glob("*.yaml"))
    return [document for file in files for document in yaml.safe_load_all(file.read_text())]


def read_unit(text: str) -> Unit:
    """Return the values of each setting of a systemd unit, in order."""
    unit: Unit = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE):
        unit.setdefault(name, []).append(value)
    return unit


def blocks(page: Path, language: str) -> Iterator[tuple[str, str]]:
    """Yield title and text of each fenced block of a language on a page."""
    form = rf'^```{language}(?: title="([^"]*)")?\n(.*?)^```$'
    yield from re.findall(form, page.read_text(), re.MULTILINE | re.DOTALL)


def configured(
    words: list[str], environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> NodeConfig | SidecarConfig:
    """Return what a command understands of its words and environment, without running it."""
    main, config = COMMANDS[Path(words[0]).name]
    for name in ("config", *options(config)):
        monkeypatch.delenv(variable(name), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    flags = dict(main.make_context(words[0], words[1:]).params)
    found: NodeConfig | SidecarConfig = gather(config, flags, flags.pop("config_file"))
    return found


def command_of(unit: Unit, instance: str, credentials: Path) -> list[str]:
    """Return the words that systemd runs a unit with."""
    (line,) = unit["ExecStart"]
    return [
        word.replace("%i", instance).replace("${CREDENTIALS_DIRECTORY}", str(credentials))
        for word in shlex.split(line)
    ]
