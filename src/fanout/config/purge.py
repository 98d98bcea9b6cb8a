"""Options of the commands edge and purge."""

import re
from collections.abc import Callable
from typing import Any

import attrs

from fanout.config.addresses import invalid
from fanout.config.options import flag, option, require_id
from fanout.config.readers import (
    read_choice,
    read_count,
    read_name,
    read_pause,
    read_seconds,
    read_url,
)
from fanout.config.shared import (
    log_format_option,
    log_level_option,
)
from fanout.config.terminal import BridgeConfig, ClientConfig
from fanout.errors import ConfigError, SettingError


def read_headers(value: Any) -> tuple[tuple[str, str], ...]:
    """Parse HTTP headers: `NAME: VALUE`, one per line."""
    lines = value.splitlines() if isinstance(value, str) else value
    if not isinstance(lines, list | tuple):
        raise ConfigError("invalid value: expected a text or a list of texts")
    found = [re.fullmatch(r"([A-Za-z0-9-]+): *([!-~]+(?: +[!-~]+)*)", str(line)) for line in lines]
    if not all(found):  # it may be a secret, so it is not repeated
        raise ConfigError("invalid header: expected NAME: VALUE in ASCII")
    return tuple((match[1], match[2]) for match in found if match)


def read_call(*placeholders: str) -> Callable[[Any], tuple[str, str, str]]:
    """Return a parser of `METHOD URL` or `METHOD URL BODY`."""

    def convert(value: Any) -> tuple[str, str, str]:
        call = re.fullmatch(r"([A-Z]+) (https?://[^/\s@{}]+(?:/\S*)?)(?: (.+))?", str(value))
        named = set(re.findall(r"\{([a-z_]+)\}", str(value)))
        if call is None or named - set(placeholders) or bool(named) is not bool(placeholders):
            form = f" with {' or '.join(f'{{{name}}}' for name in placeholders)}" * bool(
                placeholders
            )
            raise invalid(value, f"METHOD URL or METHOD URL BODY{form}")
        return call[1], call[2], call[3] or ""

    return convert


def pool_option() -> Any:
    """Return the option --pool of edges and purges."""
    return option("default", read_name, "NAME", "Pool of caches that are purged together.")


@attrs.frozen(kw_only=True)
class EdgeConfig(ClientConfig):
    """Options of the agent beside a cache."""

    id: str = option(
        "",
        read_name,
        "NAME",
        "Name of this edge in reports. Default: host name and a random suffix.",
    )
    pool: str = pool_option()
    cache: str = option(
        "", read_choice("varnish", "nginx", "http"), "DRIVER",
        "Driver that purges the cache: varnish, nginx, or http for an API. See docs/cdn.md.",
        group="Cache",
    )  # fmt: skip
    cache_url: str = option(
        "", read_url("http", "https"), "URL", "URL of Varnish or nginx.", group="Cache"
    )
    url_request: tuple[str, str, str] | None = option(
        None, read_call("url", "url_quoted"), "TEXT",
        "Request that purges one URL with driver http: METHOD URL or METHOD URL BODY. Default: that of --all-request.",
        group="Cache",
    )  # fmt: skip
    key_request: tuple[str, str, str] | None = option(
        None, read_call("key", "key_quoted"), "TEXT",
        "Request that purges one surrogate key with driver http, in the same form. Default: that of --all-request.",
        group="Cache",
    )  # fmt: skip
    all_request: tuple[str, str, str] | None = option(
        None, read_call(), "TEXT",
        "Request that purges everything with driver http, in the same form.",
        group="Cache",
    )  # fmt: skip
    request_headers: tuple[tuple[str, str], ...] = option(
        (), read_headers, "NAME: VALUE",
        "Headers of every request to the cache, one per line, such as an API token.",
        group="Cache", secret=True,
    )  # fmt: skip
    settle_seconds: float = option(
        2.0, read_pause, "SECONDS",
        "Each purge is repeated after this time, for responses that were on their way from the "
        "origin. Raising it delays the report; 0 turns the repetition off.",
        group="Cache",
    )  # fmt: skip
    everything_interval_seconds: float = option(
        10.0, read_seconds, "SECONDS",
        "Shortest time between two purges of everything after gaps. Raising it spares the "
        "origin and keeps stale responses longer.",
        group="Cache",
    )  # fmt: skip
    cache_timeout_seconds: float = option(
        5.0, read_seconds, "SECONDS",
        "Timeout of a request to the cache. Raising it delays the report of a cache that hangs.",
        group="Cache",
    )  # fmt: skip
    attempts_max: int = option(
        5, read_count(1, 100), "COUNT",
        "Attempts before a purge is reported as failed. Raising it delays that report.",
        group="Cache",
    )  # fmt: skip
    requests_per_second_max: int = option(
        1000, read_count(1, 1_000_000), "COUNT",
        "Requests to the cache per second; further ones wait. Raising it may exceed the rate limit of an API.",
        group="Cache",
    )  # fmt: skip
    log_level: str = log_level_option()
    log_format: str = log_format_option()

    def __attrs_post_init__(self) -> None:
        require_id(self.id)
        if not self.cache:
            raise SettingError("cache: missing; give --cache varnish, nginx or http", "cache")
        needed = "all_request" if self.cache == "http" else "cache_url"
        if not getattr(self, needed):
            raise SettingError(
                f"{flag(needed)}: missing; --cache {self.cache} requires it", needed, "cache"
            )
        others = (
            ["cache_url"] if self.cache == "http" else ["url_request", "key_request", "all_request"]
        )
        if extra := [name for name in others if getattr(self, name)]:
            raise SettingError(
                f"{flag(extra[0])}: not supported by --cache {self.cache}; remove it",
                extra[0],
                "cache",
            )


@attrs.frozen(kw_only=True)
class PurgeConfig(BridgeConfig):
    """Options of the command purge."""

    id: str = option(
        "",
        read_name,
        "NAME",
        "Name of the sender in the edges' logs. Default: host name and a random suffix.",
    )
    pool: str = pool_option()

    def __attrs_post_init__(self) -> None:
        require_id(self.id)
