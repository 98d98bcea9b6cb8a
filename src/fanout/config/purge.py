"""The settings of purges: of an edge, and of who purges."""

import re
from collections.abc import Callable
from typing import Any

import attrs

from fanout.config.addresses import mask
from fanout.config.options import Configuration, flag, option, require_id
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
    sidecar_ca_option,
    sidecar_cert_option,
    sidecar_option,
    tls_client_key_option,
    token_option,
)
from fanout.config.terminal import BridgeConfig
from fanout.errors import ConfigError, SettingError


def read_headers(value: Any) -> tuple[tuple[str, str], ...]:
    """Read headers of HTTP as `NAME: VALUE`, one a line."""
    lines = value.splitlines() if isinstance(value, str) else value
    if not isinstance(lines, list | tuple):
        raise ConfigError("what was given is not allowed; give a text or a list of texts")
    found = [re.fullmatch(r"([A-Za-z0-9-]+): *([!-~]+(?: +[!-~]+)*)", str(line)) for line in lines]
    if not all(found):  # it may be a secret, so it is not repeated
        raise ConfigError("a header that was given is not allowed; write NAME: VALUE in ASCII")
    return tuple((match[1], match[2]) for match in found if match)


def read_call(*placeholders: str) -> Callable[[Any], tuple[str, str, str]]:
    """Read a request as `METHOD URL`, with a body behind it if there is one."""

    def convert(value: Any) -> tuple[str, str, str]:
        call = re.fullmatch(r"([A-Z]+) (https?://[^/\s@{}]+(?:/\S*)?)(?: (.+))?", str(value))
        named = set(re.findall(r"\{([a-z_]+)\}", str(value)))
        if call is None or named - set(placeholders) or bool(named) is not bool(placeholders):
            form = f" with {' or '.join(f'{{{name}}}' for name in placeholders)}" * bool(
                placeholders
            )
            raise ConfigError(
                f"{mask(value)} is not allowed; write METHOD URL or METHOD URL BODY{form}"
            )
        return call[1], call[2], call[3] or ""

    return convert


def pool_option() -> Any:
    """Which caches are meant."""
    return option("default", read_name, "NAME", "Group of caches that are purged together.")


@attrs.frozen(kw_only=True)
class EdgeConfig(Configuration):
    """Settings of the agent beside a cache."""

    id: str = option(
        "",
        read_name,
        "NAME",
        "Name of this edge in reports. Default: made of host name and process id.",
    )
    sidecar: str = sidecar_option()
    pool: str = pool_option()
    cache: str = option(
        "", read_choice("varnish", "nginx", "http"), "DRIVER",
        "How the cache is purged: varnish, nginx, or http for an API. See docs/cdn.md.",
        group="Cache",
    )  # fmt: skip
    cache_url: str = option(
        "", read_url("http", "https"), "URL", "Where Varnish or nginx listens.", group="Cache"
    )
    url_request: tuple[str, str, str] | None = option(
        None, read_call("url", "url_quoted"), "TEXT",
        "What purges one URL by driver http: METHOD URL or METHOD URL BODY. Default: all-request.",
        group="Cache",
    )  # fmt: skip
    key_request: tuple[str, str, str] | None = option(
        None, read_call("key", "key_quoted"), "TEXT",
        "What purges one surrogate key by driver http, likewise. Default: all-request.",
        group="Cache",
    )  # fmt: skip
    all_request: tuple[str, str, str] | None = option(
        None, read_call(), "TEXT", "What purges everything by driver http, likewise.", group="Cache"
    )
    request_headers: tuple[tuple[str, str], ...] = option(
        (), read_headers, "NAME: VALUE",
        "Headers of every request to the cache, one a line; API tokens belong here.",
        group="Cache", secret=True,
    )  # fmt: skip
    settle_seconds: float = option(
        2.0, read_pause, "SECONDS",
        "Each purge is made again after this time, for answers that were on their way from the "
        "origin. Raising it delays the report; 0 makes none.",
        group="Cache",
    )  # fmt: skip
    everything_interval_seconds: float = option(
        10.0, read_seconds, "SECONDS",
        "Shortest time between two purges of everything because of gaps. Raising it spares the "
        "origin and lets stale answers live longer.",
        group="Cache",
    )  # fmt: skip
    cache_timeout_seconds: float = option(
        5.0, read_seconds, "SECONDS",
        "How long the cache may take to answer. Raising it delays the report of a cache that hangs.",
        group="Cache",
    )  # fmt: skip
    attempts_max: int = option(
        5, read_count(1, 100), "COUNT",
        "How often a purge is tried before it is reported as failed. Raising it delays that report.",
        group="Cache",
    )  # fmt: skip
    requests_per_second_max: int = option(
        1000, read_count(1, 1_000_000), "COUNT",
        "Requests to the cache in a second; more wait. Raising it may break the rules of an API.",
        group="Cache",
    )  # fmt: skip
    token: str = token_option()
    tls_ca: str = sidecar_ca_option()
    tls_client_cert: str = sidecar_cert_option()
    tls_client_key: str = tls_client_key_option()
    log_level: str = log_level_option()
    log_format: str = log_format_option()

    def __attrs_post_init__(self) -> None:
        require_id(self.id)
        if not self.cache:
            raise SettingError("cache: missing; give --cache varnish, nginx or http", "cache")
        needed = "all_request" if self.cache == "http" else "cache_url"
        if not getattr(self, needed):
            raise SettingError(
                f"{flag(needed)}: missing; --cache {self.cache} needs it", needed, "cache"
            )
        others = (
            ["cache_url"] if self.cache == "http" else ["url_request", "key_request", "all_request"]
        )
        if extra := [name for name in others if getattr(self, name)]:
            raise SettingError(
                f"{flag(extra[0])}: not allowed; --cache {self.cache} has no use for it",
                extra[0],
                "cache",
            )


@attrs.frozen(kw_only=True)
class PurgeConfig(BridgeConfig):
    """Settings of the command that purges."""

    id: str = option(
        "",
        read_name,
        "NAME",
        "Name of who purges, for the edges' logs. Default: host name and process id.",
    )
    pool: str = pool_option()

    def __attrs_post_init__(self) -> None:
        require_id(self.id)
