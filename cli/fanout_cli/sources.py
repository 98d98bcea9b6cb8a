"""Values of the options from all sources: flags override the environment, which overrides the file."""

import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from fanout.config import (
    BridgeConfig,
    Configuration,
    DnsConfig,
    EdgeConfig,
    FleetConfig,
    NodeConfig,
    PurgeConfig,
    SidecarConfig,
    TopConfig,
    flag,
    options,
    renamed,
    split_urls,
)
from fanout.errors import ConfigError, SettingError
from fanout.runtime.process.toml_file import read_toml

HOST_CHARACTERS_MAX = 48
"""Characters of the host name in a default id. The last ones: names of pods differ at the end."""

_WHOLE = (NodeConfig, SidecarConfig)
_ALL = (*_WHOLE, FleetConfig, DnsConfig, EdgeConfig, PurgeConfig, BridgeConfig, TopConfig)
_KNOWN = frozenset(name for config in _ALL for name in (*options(config), *renamed(config)))

C = TypeVar("C", bound=Configuration)


def variable(name: str) -> str:
    """Return the environment variable of an option."""
    return f"FANOUT_{name.upper()}"


def gather(
    config: type[C],
    flags: Mapping[str, Any],
    config_file: str | None,
    warn: Callable[[str, str, str], object] = lambda _former, _now, _source: None,
) -> C:
    """Return the configuration from all sources. Raises ConfigError, which names the source.

    `warn` is called with the former name of an option, its current name and the source, for each
    that a source gives by its former name.
    """
    values: dict[str, object] = {}
    sources: dict[str, str] = {}
    for name, value, source in _given(config, flags, config_file):
        values[name], sources[name] = value, source
    for former, now in renamed(config).items():
        if former not in values:
            continue
        source = sources.pop(former)
        if now in values:
            raise ConfigError(
                f"{flag(now)}: also given by its former name {flag(former)}; give only "
                f"{flag(now)} (from {sources[now]} and {source})"
            )
        values[now], sources[now] = values.pop(former), source
        warn(former, now, source)
    try:
        default = {"id": _default_id()} if "id" in options(config) else {}
        return config.from_mapping({**default, **values})
    except SettingError as error:
        blamed = " and ".join(sources[name] for name in error.names if name in sources)
        raise ConfigError(f"{error} (from {blamed})" if blamed else str(error)) from None


def _given(
    config: type, flags: Mapping[str, Any], config_file: str | None
) -> Iterator[tuple[str, Any, str]]:
    """Yield name, value and source of what is given: the file, then environment, then flags."""
    given = {name: value for name, value in flags.items() if value not in (None, ())}
    _refuse_secrets(config, {**given, "config": config_file or ""})
    known = {*options(config), *renamed(config)}
    if path := config_file or os.environ.get("FANOUT_CONFIG"):
        for name, value in read_toml("config", path).items():
            # Subcommands may share a file with each other and with the services.
            if config in _WHOLE or name in known or name not in _KNOWN:
                yield name, value, f"{name} in file {path}"
    for name in known:
        if (text := os.environ.get(variable(name))) is not None:
            yield name, text, f"environment variable {variable(name)}"
    for name, value in given.items():
        yield name, value, f"flag --{flag(name)}"


def _refuse_secrets(config: type, given: Mapping[str, str | tuple[str, ...]]) -> None:
    """Raise ConfigError for a password in any flag, also in one that takes no URL."""
    known, now = options(config), renamed(config)
    for name, value in given.items():
        field = known.get(now.get(name, name))
        secret = field is not None and field.metadata["secret"]
        for text in (value,) if isinstance(value, str) else value:
            if secret or any(re.search(r"//[^@]*:.*@", url, re.DOTALL) for url in split_urls(text)):
                raise ConfigError(
                    f"{flag(name)}: a password on the command line is visible to all users of this "
                    f"machine; give it in {variable(name)} or in a file by --config "
                    f"(from flag --{flag(name)})"
                )


def _default_id() -> str:
    """Return a new id: in containers process ids are all alike, and host names may be cut alike."""
    host = re.sub(r"[^A-Za-z0-9]+", "-", os.uname().nodename)[-HOST_CHARACTERS_MAX:].strip("-")
    return f"{host or 'host'}-{secrets.token_hex(4)}"
