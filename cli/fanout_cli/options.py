"""Options of both commands: flag before environment before file before default."""

import os
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click
import trio

from fanout.config import NodeConfig, SidecarConfig, options
from fanout.errors import ConfigError, FanoutError
from fanout.runtime.logs import configure_logging

REPEATABLE = ("discovery",)
SECRET_URLS = ("discovery", "redis")

C = TypeVar("C", SidecarConfig, NodeConfig)


def add_options(config: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for every setting of `config`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for name, field in reversed(options(config).items()):
            default = field.default
            shown = "" if default in (None, "", (), 0) else f"  [default: {default}]"
            command = click.option(
                f"--{name.replace('_', '-')}",
                name,
                metavar=field.metadata["metavar"],
                multiple=name in REPEATABLE,
                help=f"{field.metadata['help']}{shown}",
            )(command)
        return click.option(
            "--config",
            "config_file",
            metavar="FILE",
            help="TOML file with the same names, underscores for dashes.",
        )(command)

    return decorate


def gather(config: type[C], flags: Mapping[str, Any], config_file: str | None) -> C:
    """Build the configuration from all its sources. Raises ConfigError naming the source."""
    known = options(config)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    path = config_file or os.environ.get("FANOUT_CONFIG")
    if path:
        for name, value in _read_file(path).items():
            values[name], sources[name] = value, f"file {path}"
    for name in known:
        variable = f"FANOUT_{name.upper()}"
        if variable in os.environ:
            values[name], sources[name] = os.environ[variable], f"environment variable {variable}"
    for name, value in flags.items():
        if value is not None and value != ():
            if name in SECRET_URLS:
                _refuse_secrets(name, value)
            values[name], sources[name] = value, "command line"
    values.setdefault("id", _default_id())
    try:
        return config.from_mapping(values)
    except ConfigError as error:
        name = str(error).split(":", 1)[0].replace("-", "_")
        source = f" (from {sources[name]})" if name in sources else ""
        raise ConfigError(f"{error}{source}") from None


def run(main: Callable[..., Any], config: SidecarConfig | NodeConfig) -> None:
    """Run a service and end the process with its exit code; errors become one line each."""
    configure_logging(config.log_level, config.log_format)
    try:
        code = trio.run(main, config)
    except BaseException as error:
        failures = _failures(error)
        if not failures:
            raise
        for failure in failures:
            click.echo(f"Error: {failure}", err=True)
        code = 2 if any(isinstance(failure, ConfigError) for failure in failures) else 1
    sys.exit(code)


def fail(error: ConfigError) -> None:
    """Report a wrong setting and end with exit code 2."""
    click.echo(f"Error: {error}", err=True)
    sys.exit(2)


def _failures(error: BaseException) -> list[FanoutError]:
    """Return the fanout errors that an exception consists of; none if it holds anything else."""
    if isinstance(error, FanoutError):
        return [error]
    if not isinstance(error, BaseExceptionGroup):
        return []
    found = [_failures(each) for each in error.exceptions]
    return [failure for each in found for failure in each] if all(found) else []


def _read_file(path: str) -> dict[str, Any]:
    try:
        with Path(path).open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"config: cannot read {path}: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"config: {path} is not TOML: {error}") from None


def _refuse_secrets(name: str, value: str | tuple[str, ...]) -> None:
    texts = (value,) if isinstance(value, str) else value
    for text in texts:
        for url in text.split(","):
            if "@" in url and (":" in urlsplit(url).netloc.rpartition("@")[0]):
                raise ConfigError(
                    f"{name}: a password on the command line can be read by every user of this "
                    f"machine; give the URL in FANOUT_{name.upper()} or in a file by --config"
                )


def _default_id() -> str:
    host = "".join(c if c.isascii() and c.isalnum() else "-" for c in os.uname().nodename)
    return f"{host.strip('-') or 'host'}-{os.getpid()}"[:64]
