"""What is purged, and the two messages about it: the purge and an edge's report.

Both are JSON objects with a version. Unknown fields are ignored; an unknown version is told apart
from what is no purge at all, since a purge that cannot be read must not be passed over.
"""

import re
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

import attrs

from fanout.config import mask
from fanout.errors import ConfigError, RemoteProtocolError
from fanout.wire.records import decode_fields, read_name

VERSION = 1
NAMES_MAX = 64
"""URLs or keys in one purge. Each costs every edge a request, so more are several purges."""

URL_CHARACTERS_MAX = 2048
KEY_CHARACTERS_MAX = 256
MESSAGE_BYTES_MAX = 256 * 1024
"""Larger than any purge within the limits above."""

TEXT_CHARACTERS_MAX = 512
"""What is kept of an edge's words about a failure."""

KEY = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._:/@=~-]{{0,{KEY_CHARACTERS_MAX - 1}}}")
"""The form of a surrogate key: it fits into a header, a URL and a regular expression."""

_NETLOC = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]*)?")
_PORTS = {"http": ":80", "https": ":443"}


class Kind(Enum):
    """By what a purge names what it removes."""

    URL = "url"
    KEY = "key"
    ALL = "all"


class Outcome(Enum):
    """How far an edge is with a purge."""

    PENDING = "pending"  # received
    APPLIED = "applied"  # its cache serves nothing any more that the purge was about
    FAILED = "failed"  # the report's code says why


def checked_url(text: str) -> str:
    """Return a URL as caches know it. Raises ConfigError.

    Host and scheme become lower case, a default port and an empty path are written out as browsers
    send them.
    """
    fault, url = "", urlsplit("")
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        fault = "it cannot be read"
    if not re.fullmatch(rf"[!-~]{{1,{URL_CHARACTERS_MAX}}}", text) or re.search(r'["\\<>]', text):
        fault = (
            f"use 1 to {URL_CHARACTERS_MAX} characters of ASCII, and % for what may not stand in it"
        )
    elif not fault and (url.scheme not in _PORTS or not url.hostname):
        fault = "write http://HOST/PATH or https://HOST/PATH, with the host that visitors use"
    elif not fault and (not _NETLOC.fullmatch(url.netloc) or "#" in text or port == 0):
        fault = "a user, a port 0, a fragment, or a host with other signs means nothing to a cache"
    if fault:
        raise ConfigError(f"url: {mask(text[:KEY_CHARACTERS_MAX])} is not allowed; {fault}")
    host = url.netloc.lower().removesuffix(_PORTS[url.scheme]).removesuffix(":")
    return f"{url.scheme}://{host}{url.path or '/'}{'?' if url.query else ''}{url.query}"


def checked_key(text: str) -> str:
    """Return a surrogate key as it is. Raises ConfigError."""
    if not KEY.fullmatch(text):
        raise ConfigError(
            f"key: {_shown(text)} is not allowed; use 1 to {KEY_CHARACTERS_MAX} letters, digits or "
            "any of . _ : / @ = ~ -, a letter or digit first"
        )
    return text


@attrs.frozen
class Target:
    """What to remove from caches. Made by `by_url`, `by_key` and `everything`."""

    kind: Kind
    names: tuple[str, ...] = ()

    def __attrs_post_init__(self) -> None:
        if bool(self.names) is (self.kind is Kind.ALL) or len(self.names) > NAMES_MAX:
            allowed = "no name" if self.kind is Kind.ALL else f"1 to {NAMES_MAX} names"
            raise ConfigError(f"{self.kind.value}: {len(self.names)} names; give {allowed}")


def by_url(*urls: str) -> Target:
    """Name pages by the URLs that visitors use, queries included. Raises ConfigError."""
    return Target(Kind.URL, tuple(map(checked_url, urls)))


def by_key(*keys: str) -> Target:
    """Name pages by their surrogate keys: those that have any of them. Raises ConfigError."""
    return Target(Kind.KEY, tuple(map(checked_key, keys)))


def everything() -> Target:
    """Name all pages."""
    return Target(Kind.ALL)


def target_of(kind: str, names: Iterable[str]) -> Target:
    """Return what a kind's value and names mean. Raises ConfigError."""
    match kind:
        case "url":
            return by_url(*names)
        case "key":
            return by_key(*names)
        case "all":
            return Target(Kind.ALL, tuple(names))
    raise ConfigError(f"kind: {_shown(kind)} is not allowed; choose url, key or all")


@attrs.frozen(kw_only=True)
class Purge:
    """A purge as it is published. Whoever gets it twice, by its `id`, takes it once."""

    type: str = "purge"
    v: int = VERSION
    id: str
    kind: Kind
    names: tuple[str, ...]
    time: float  # of the publisher's clock, in seconds since 1970; for whoever listens
    origin: str  # who published it; for logs only

    @property
    def target(self) -> Target:
        """What it removes."""
        return Target(self.kind, self.names)


@attrs.frozen(kw_only=True)
class Report:
    """What an edge says about a purge. `code` is stable and empty unless it failed."""

    type: str = "report"
    v: int = VERSION
    id: str
    edge: str
    outcome: Outcome
    code: str = ""
    message: str = ""


class UnknownVersion(Exception):  # noqa: N818 - a fact about the publisher
    """The purge is one of a later build, and what it is about cannot be known."""


def purge_channel(pool: str) -> str:
    """Return the channel of a pool's purges."""
    return f"purge:{pool}"


def report_channel(pool: str) -> str:
    """Return the channel of the reports of a pool's edges."""
    return f"purge-report:{pool}"


def decode_purge(data: bytes) -> Purge:
    """Read the message of a purge. Raises RemoteProtocolError, UnknownVersion."""
    found = decode_fields(Purge, data, MESSAGE_BYTES_MAX, _READERS)
    try:
        return attrs.evolve(found, names=target_of(found.kind.value, found.names).names)
    except ConfigError as error:
        raise RemoteProtocolError(str(error)) from None


def decode_report(data: bytes) -> Report:
    """Read the message of a report. Raises RemoteProtocolError, UnknownVersion."""
    return decode_fields(Report, data, MESSAGE_BYTES_MAX, _READERS)


def plain(text: str) -> str:
    """Return a text as a report may have it: printable, and not too long."""
    return "".join(each if each.isprintable() else "?" for each in text[:TEXT_CHARACTERS_MAX])


def _version(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError("not a version")
    if value > VERSION:
        raise UnknownVersion
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValueError("not a list of texts")
    return tuple(value)


def _form(pattern: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise ValueError(f"not of the form {pattern}")
        return value

    return read


def _printable(value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError("not printable")
    return value[:TEXT_CHARACTERS_MAX]


_READERS: dict[str, Callable[[Any], Any]] = {
    "type": _form("[a-z]+"),
    "v": _version,
    "id": _form("[A-Za-z0-9-]{1,64}"),
    "kind": Kind,
    "names": _texts,
    "time": lambda value: value if isinstance(value, float) else 0.0,
    "origin": read_name,
    "edge": read_name,
    "outcome": Outcome,
    "code": _form("[a-z_]{0,64}"),
    "message": _printable,
}


def _shown(text: str) -> str:
    return repr(text if len(text) <= KEY_CHARACTERS_MAX else text[:KEY_CHARACTERS_MAX] + "...")
