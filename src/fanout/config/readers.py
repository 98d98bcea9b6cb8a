"""Read single values: each takes a text, number or list, and raises ConfigError."""

import math
import re
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any
from urllib.parse import urlsplit

from fanout.config.addresses import DiscoveryAddress, RedisAddress, mask, split_urls
from fanout.errors import ConfigError
from fanout.values.names import NAME, Endpoint, IPNetwork


def read_discovery(value: Any) -> tuple[DiscoveryAddress, ...]:
    """Read discovery instances: each an address, then those of its read replicas."""
    texts = split_urls(value.strip(), r"\s+") if isinstance(value, str) else value
    if not isinstance(texts, list | tuple):
        raise ConfigError(f"{mask(value)} is not allowed; give a URL or a list of URLs")
    return tuple(DiscoveryAddress.parse(str(text)) for text in texts)


def read_name(value: Any) -> str:
    """Read the name of a member, fleet or pool."""
    if not NAME.fullmatch(str(value)):
        raise ConfigError(
            f"{mask(value)} is not allowed; use 1 to 64 letters, digits, '.', '_' or '-', "
            "a letter or digit first"
        )
    return str(value)


def read_seconds(value: Any) -> float:
    """Read a time in seconds over 0."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 < number < math.inf:
        raise ConfigError(f"{mask(value)} is not allowed; give a number of seconds over 0")
    return number


def read_pause(value: Any) -> float:
    """Read a time in seconds, or 0 for none."""
    return 0.0 if str(value) in ("0", "0.0") else read_seconds(value)


def read_count(least: int, most: int) -> Callable[[Any], int]:
    """Return what reads a whole number within these limits."""

    def convert(value: Any) -> int:
        try:
            number = int(str(value))
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise ConfigError(
                f"{mask(value)} is not allowed; give a whole number {least} to {most}"
            )
        return number

    return convert


def read_choice(*allowed: str) -> Callable[[Any], str]:
    """Return what reads one of the allowed words."""

    def convert(value: Any) -> str:
        if value not in allowed:
            raise ConfigError(f"{mask(value)} is not allowed; choose {', '.join(allowed)}")
        return str(value)

    return convert


def read_endpoint(value: Any) -> Endpoint:
    """Read HOST:PORT or unix:PATH."""
    text = str(value)
    if not text.startswith("unix:") and re.search(r"//|[@\s]", text):
        raise ConfigError(f"{mask(value)} is not allowed; give HOST:PORT or unix:PATH, not a URL")
    return Endpoint.parse(text)


def read_tcp_endpoint(value: Any) -> Endpoint:
    """Read HOST:PORT."""
    endpoint = read_endpoint(value)
    if endpoint.path:
        raise ConfigError(f"{mask(value)} is not allowed; give HOST:PORT")
    return endpoint


def read_fixed_endpoint(value: Any) -> Endpoint:
    """Read HOST:PORT with a port that others can know."""
    endpoint = read_tcp_endpoint(value)
    if not endpoint.port:
        raise ConfigError(f"{mask(value)} is not allowed; port 0 cannot be connected to")
    return endpoint


def read_text(value: Any) -> str:
    """Read printable text; the message does not repeat it, as it may be a secret."""
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ConfigError("what was given is not allowed; give printable text")
    return value


def read_words(value: Any, form: str, example: str) -> tuple[str, ...]:
    """Read words of a form; `example` says it to people."""
    words = value.split() if isinstance(value, str) else value
    if not isinstance(words, list | tuple):
        raise ConfigError(f"{mask(value)} is not allowed; give a text or a list of texts")
    for word in words:
        if not isinstance(word, str) or not re.fullmatch(form, word):
            raise ConfigError(f"{mask(word)} is not allowed; write {example}")
    return tuple(words)


def read_origins(value: Any) -> tuple[str, ...]:
    """Read the origins of web pages."""
    form = r"null|[A-Za-z][A-Za-z0-9+.-]*://[^/\s@]+"
    return read_words(value, form, "SCHEME://HOST or SCHEME://HOST:PORT, or null for local files")


def read_hosts(value: Any) -> tuple[str, ...]:
    """Read names of hosts without port."""
    return read_words(
        value, r"[^/\s@:]+|[0-9a-fA-F:]*:[0-9a-fA-F:]*", "a name or an address, without port"
    )


def read_networks(value: Any) -> tuple[IPNetwork, ...]:
    """Read networks, or single addresses."""
    form = "a network such as 10.0.0.0/8 or fd00::/8"
    networks = []
    for word in read_words(value, r"[0-9a-fA-F.:/]+", form):
        try:
            networks.append(ip_network(word))
        except ValueError as error:
            raise ConfigError(f"{mask(word)} is not allowed ({error}); write {form}") from None
    return tuple(networks)


def read_redis(value: Any) -> RedisAddress:
    """Read the address of a Redis."""
    return RedisAddress.parse(str(value))


def read_url(*schemes: str) -> Callable[[Any], str]:
    """Return what reads a URL of one of these schemes, without user, query or fragment."""

    def convert(value: Any) -> str:
        try:
            url = urlsplit(str(value))
            plain = url.scheme in schemes and url.hostname and url.port != 0
        except ValueError:
            plain = False
        if not plain or re.search(r"[\s@?#]", str(value)):
            raise ConfigError(f"{mask(value)} is not allowed; write {schemes[0]}://HOST:PORT")
        return str(value)

    return convert


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address."""
    return host in ("localhost", "::1") or re.fullmatch(r"127(\.[0-9]{1,3}){3}", host) is not None


def is_wide(endpoint: Endpoint) -> bool:
    """Return whether others than this machine reach an address."""
    return not endpoint.path and not is_loopback(endpoint.host)
