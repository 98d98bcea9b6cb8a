"""Reads TOML files named in settings."""

import tomllib
from pathlib import Path
from typing import Any

from fanout.errors import ConfigError


def read_toml(setting: str, path: str) -> dict[str, Any]:
    """Return the content of a TOML file. Raises ConfigError with the setting and the file."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{setting}: cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{setting}: {path} is not UTF-8 at byte {error.start}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{setting}: {path} is not TOML: {error}") from None
