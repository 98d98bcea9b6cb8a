"""Parsers of option values. Each takes a text, a number or a list, and raises ConfigError."""

import math
import re
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any
from urllib.parse import urlsplit

from fanout.config.addresses import DiscoveryAddress, RedisAddress, invalid, split_urls
from fanout.errors import ConfigError
from fanout.values.names import NAME, Endpoint, IPNetwork


def read_discovery(value: Any) -> tuple[DiscoveryAddress, ...]:
    """Parse discovery instances: the URL of each, followed by those of its read replicas."""
    texts = split_urls(value.strip(), r"\s+") if isinstance(value, str) else value
    if not isinstance(texts, list | tuple):
        raise invalid(value, "a URL or a list of URLs")
    return tuple(DiscoveryAddress.parse(str(text)) for text in texts)


def read_name(value: Any) -> str:
    """Parse the name of a member, fleet or pool."""
    if not NAME.fullmatch(str(value)):
        raise invalid(
            value, "1 to 64 letters, digits, '.', '_' or '-', with a letter or digit first"
        )
    return str(value)


def read_seconds(value: Any) -> float:
    """Parse a number of seconds greater than 0."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 < number < math.inf:
        raise invalid(value, "a number of seconds greater than 0")
    return number


def read_pause(value: Any) -> float:
    """Parse a number of seconds, 0 included."""
    if str(value) in ("0", "0.0"):
        return 0.0
    try:
        return read_seconds(value)
    except ConfigError:
        raise invalid(value, "0 or a number of seconds greater than 0") from None


def read_count(least: int, most: int) -> Callable[[Any], int]:
    """Return a parser of an integer between `least` and `most`."""

    def convert(value: Any) -> int:
        try:
            number = int(str(value))
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise invalid(value, f"an integer from {least} to {most}")
        return number

    return convert


def read_choice(*allowed: str) -> Callable[[Any], str]:
    """Return a parser that accepts the `allowed` words."""

    def convert(value: Any) -> str:
        if value not in allowed:
            raise invalid(value, f"one of {', '.join(allowed)}")
        return str(value)

    return convert


def read_endpoint(value: Any) -> Endpoint:
    """Parse HOST:PORT or unix:PATH."""
    text = str(value)
    if not text.startswith("unix:") and re.search(r"//|[@\s]", text):
        raise invalid(value, "HOST:PORT or unix:PATH, not a URL")
    return Endpoint.parse(text)


def read_tcp_endpoint(value: Any) -> Endpoint:
    """Parse HOST:PORT."""
    endpoint = read_endpoint(value)
    if endpoint.path:
        raise invalid(value, "HOST:PORT")
    return endpoint


def read_fixed_endpoint(value: Any) -> Endpoint:
    """Parse HOST:PORT with a port other than 0."""
    endpoint = read_tcp_endpoint(value)
    if not endpoint.port:
        raise invalid(value, "HOST:PORT with a port other than 0")
    return endpoint


def read_text(value: Any) -> str:
    """Parse printable text. The error does not repeat it, since it may be a secret."""
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ConfigError("invalid value: expected printable text")
    return value


def read_words(value: Any, form: str, expected: str) -> tuple[str, ...]:
    """Parse words that match the pattern `form`; `expected` describes it in the error."""
    words = value.split() if isinstance(value, str) else value
    if not isinstance(words, list | tuple):
        raise invalid(value, "a text or a list of texts")
    for word in words:
        if not isinstance(word, str) or not re.fullmatch(form, word):
            raise invalid(word, expected)
    return tuple(words)


def read_origins(value: Any) -> tuple[str, ...]:
    """Parse the origins of web pages."""
    form = r"null|[A-Za-z][A-Za-z0-9+.-]*://[^/\s@]+"
    return read_words(value, form, "SCHEME://HOST or SCHEME://HOST:PORT, or null for local files")


def read_hosts(value: Any) -> tuple[str, ...]:
    """Parse host names without port."""
    return read_words(
        value, r"[^/\s@:]+|[0-9a-fA-F:]*:[0-9a-fA-F:]*", "a name or an address, without port"
    )


def read_networks(value: Any) -> tuple[IPNetwork, ...]:
    """Parse networks and single addresses."""
    form = "a network such as 10.0.0.0/8 or fd00::/8"
    networks = []
    for word in read_words(value, r"[0-9a-fA-F.:/]+", form):
        try:
            networks.append(ip_network(word))
        except ValueError as error:
            raise invalid(word, f"{form} ({error})") from None
    return tuple(networks)


def read_redis(value: Any) -> RedisAddress:
    """Parse the URL of a Redis."""
    return RedisAddress.parse(str(value))


def read_url(*schemes: str) -> Callable[[Any], str]:
    """Return a parser of URLs of these schemes, without user, query or fragment."""

    def convert(value: Any) -> str:
        try:
            url = urlsplit(str(value))
            plain = url.scheme in schemes and url.hostname and url.port != 0
        except ValueError:
            plain = False
        if not plain or re.search(r"[\s@?#]", str(value)):
            raise invalid(value, f"{schemes[0]}://HOST:PORT")
        return str(value)

    return convert


def is_loopback(host: str) -> bool:
    """Return whether a host is the loopback interface."""
    return host in ("localhost", "::1") or re.fullmatch(r"127(\.[0-9]{1,3}){3}", host) is not None


def is_wide(endpoint: Endpoint) -> bool:
    """Return whether other machines may reach an endpoint."""
    return not endpoint.path and not is_loopback(endpoint.host)
