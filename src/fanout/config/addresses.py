"""Addresses of Redis servers, and how what may hold a password is shown."""

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
    """Return how `value` is shown in a message: without what may be a password.

    Everything up to the last `@` goes, and the query of a URL: when a URL is wrong, nobody can
    tell where its password was meant to end.
    """
    text = value if isinstance(value, str) else repr(value)
    text = re.sub(rf"^([^@:]*?{_SCHEME})?.*@", r"\1***@", text, flags=re.DOTALL)
    text = re.sub(r"\?.*", "?***", text, flags=re.DOTALL) if "://" in text else text
    return repr(text) if isinstance(value, str) else text


def split_urls(text: str, separator: str = ",") -> list[str]:
    """Split `URL,URL...` where another URL begins: half a password is never taken for a URL."""
    return re.split(rf"(?:{separator})(?={_SCHEME})", text)


def _url_fault(text: str, url: SplitResult) -> str:
    """Return what a Redis URL says that redis' own parser would pass over in silence."""
    unix = url.scheme == "unix"
    allowed = r"/.+" if unix else r"/?|/[0-9]+"
    if not text.startswith(("redis://", "rediss://", "unix://")):
        return "it does not begin so"
    if re.search(r"\s", text):
        return "it holds white space"
    if unix is bool(url.hostname):
        return "it names a host" if unix else "it names no host"
    if url.port == 0:
        return "port 0 cannot be connected to"
    if not re.fullmatch(allowed, url.path):
        return "it names no path" if unix else "its database is no number"
    query = parse_qsl(url.query, keep_blank_values=True)
    if url.fragment or (query and not unix) or any(key != "db" for key, _ in query):
        return "it has a query or fragment that means nothing here"
    if not all(number.isascii() and number.isdigit() for _, number in query):
        return "its database is no number"
    return ""


@attrs.frozen
class RedisAddress:
    """Where a Redis is and how to log in."""

    endpoint: Endpoint
    username: str = ""
    password: str = attrs.field(default="", repr=False)
    database: int = 0
    tls: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `redis[s]://[user:password@]host[:port][/db]` or `unix://[user:password@]/path[?db=n]`.

        Raises:
            ConfigError: the text has another form. The message does not repeat a password.

        """
        try:
            url = urlsplit(text)
            fault = _url_fault(text, url)
        except ValueError:  # its message may repeat a piece of the password
            fault = "it cannot be read"
        if fault:
            raise ConfigError(
                f"{mask(text)} is no Redis URL: {fault}; write redis://HOST:PORT/DB, rediss: for TLS, or "
                "unix:///PATH?db=DB, with / ? # @ in a password as %2F %3F %23 %40"
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
    """One discovery instance: a primary, and read replicas that take the reads."""

    primary: RedisAddress
    replicas: tuple[RedisAddress, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `URL[,URL...]`: the primary, then its replicas. Raises ConfigError."""
        primary, *replicas = [RedisAddress.parse(url) for url in split_urls(text)]
        return cls(primary, tuple(replicas))
