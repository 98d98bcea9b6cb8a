"""Addresses of Redis servers, and the masking of passwords in error messages."""

import re
from typing import Self
from urllib.parse import SplitResult, parse_qsl, urlsplit

import attrs
from redis.connection import parse_url

from fanout.errors import ConfigError
from fanout.values.names import Endpoint

_SCHEME = "(?:rediss?|unix)://"


REDIS_PORT = 6379


def mask(value: object) -> str:
    """Return `value` as it is shown in a message: without anything that may be a password.

    Everything up to the last `@` and the query of a URL are replaced: in a malformed URL the end of
    the password is unknown.
    """
    text = value if isinstance(value, str) else repr(value)
    text = re.sub(rf"^([^@:]*?{_SCHEME})?.*@", r"\1***@", text, flags=re.DOTALL)
    text = re.sub(r"\?.*", "?***", text, flags=re.DOTALL) if "://" in text else text
    return repr(text) if isinstance(value, str) else text


def invalid(value: object, expected: str) -> ConfigError:
    """Return the error for an invalid value, which it shows masked."""
    return ConfigError(f"invalid value {mask(value)}: expected {expected}")


def split_urls(text: str, separator: str = ",") -> list[str]:
    """Split `URL,URL...` only where another URL begins: a password may contain the separator."""
    return re.split(rf"(?:{separator})(?={_SCHEME})", text)


def _url_fault(text: str, url: SplitResult) -> str:
    """Return what is wrong in a Redis URL that redis-py would ignore; empty if nothing is."""
    unix = url.scheme == "unix"
    allowed = r"/.+" if unix else r"/?|/[0-9]+"
    if not text.startswith(("redis://", "rediss://", "unix://")):
        return "unknown scheme"
    if re.search(r"\s", text):
        return "it contains white space"
    if unix is bool(url.hostname):
        return "a unix:// URL has no host" if unix else "no host"
    if url.port == 0:
        return "port 0 is not a port to connect to"
    if not re.fullmatch(allowed, url.path):
        return "no path" if unix else "the database is not a number"
    query = parse_qsl(url.query, keep_blank_values=True)
    if url.fragment or (query and not unix) or any(key != "db" for key, _ in query):
        return "unsupported query or fragment"
    if not all(number.isascii() and number.isdigit() for _, number in query):
        return "the database is not a number"
    return ""


@attrs.frozen
class RedisAddress:
    """Address and credentials of a Redis."""

    endpoint: Endpoint
    username: str = ""
    password: str = attrs.field(default="", repr=False)
    database: int = 0
    tls: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `redis[s]://[user:password@]host[:port][/db]` or `unix://[user:password@]/path[?db=n]`.

        Raises:
            ConfigError: the text is malformed. The message does not repeat a password.

        """
        try:
            url = urlsplit(text)
            fault = _url_fault(text, url)
        except ValueError:  # its message may repeat a part of the password
            fault = "malformed"
        if fault:
            raise ConfigError(
                f"invalid Redis URL {mask(text)}: {fault}; expected redis://HOST:PORT/DB, rediss:// "
                "for TLS, or unix:///PATH?db=DB; encode / ? # @ in a password as %2F %3F %23 %40"
            )
        parts = parse_url(text)  # type: ignore[no-untyped-call]
        return cls(
            endpoint=Endpoint(path=parts["path"])
            if url.scheme == "unix"
            else Endpoint(parts["host"], parts.get("port", REDIS_PORT)),
            username=parts.get("username", ""),
            password=parts.get("password", ""),
            database=parts.get("db", 0),
            tls=url.scheme == "rediss",
        )

    def __str__(self) -> str:
        return str(self.endpoint)


@attrs.frozen
class DiscoveryAddress:
    """A discovery instance: a primary, and read replicas that serve the reads."""

    primary: RedisAddress
    replicas: tuple[RedisAddress, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `URL[,URL...]`: the primary, then its replicas. Raises ConfigError."""
        primary, *replicas = [RedisAddress.parse(url) for url in split_urls(text)]
        return cls(primary, tuple(replicas))
