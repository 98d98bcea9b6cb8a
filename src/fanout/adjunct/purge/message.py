"""What is purged, and the two messages about it: the purge and an edge's report.

Both are JSON objects with a version. Unknown fields are ignored; an unknown version is told apart
from what is no purge at all, since a purge that cannot be read must not be passed over.
"""

import json
import math
import re
from collections.abc import Iterable
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

import attrs

from fanout.config import mask
from fanout.errors import ConfigError, RemoteProtocolError
from fanout.values import NAME

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

_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
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

    id: str
    target: Target
    time_seconds: float  # of the publisher's clock, since 1970; for logs only
    origin: str  # who published it; for logs only


@attrs.frozen(kw_only=True)
class Report:
    """What an edge says about a purge. `code` is stable and empty unless it failed."""

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


def encode_purge(purge: Purge) -> bytes:
    """Return the message of a purge."""
    return _encode(
        "purge",
        id=purge.id,
        kind=purge.target.kind.value,
        names=purge.target.names,
        time=purge.time_seconds,
        origin=purge.origin,
    )


def decode_purge(data: bytes) -> Purge:
    """Read the message of a purge. Raises RemoteProtocolError, UnknownVersion."""
    fields = _decode(data, "purge")
    names, origin = fields.get("names"), str(fields.get("origin"))
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RemoteProtocolError("names is no list of texts")
    try:
        time_seconds = float(fields.get("time", math.nan))
    except (TypeError, ValueError, OverflowError):
        time_seconds = math.nan
    if not math.isfinite(time_seconds):
        raise RemoteProtocolError("time is no number of seconds")
    if not NAME.fullmatch(origin):
        raise RemoteProtocolError("origin is no name")
    try:
        target = target_of(str(fields.get("kind")), names)
    except ConfigError as error:
        raise RemoteProtocolError(str(error)) from None
    return Purge(id=fields["id"], target=target, time_seconds=time_seconds, origin=origin)


def encode_report(report: Report) -> bytes:
    """Return the message of a report."""
    fields = attrs.asdict(report)
    return _encode("report", **{**fields, "outcome": report.outcome.value})


def decode_report(data: bytes) -> Report:
    """Read the message of a report. Raises RemoteProtocolError, UnknownVersion."""
    fields = _decode(data, "report")
    edge, code, message = (str(fields.get(name)) for name in ("edge", "code", "message"))
    if not NAME.fullmatch(edge):
        raise RemoteProtocolError("edge is no name")
    if not re.fullmatch(r"[a-z_]{0,64}", code) or not message.isprintable():
        raise RemoteProtocolError("code or message is not printable")
    try:
        outcome = Outcome(fields.get("outcome"))
    except ValueError:
        raise RemoteProtocolError("outcome is none of pending, applied, failed") from None
    message = message[:TEXT_CHARACTERS_MAX]
    return Report(id=fields["id"], edge=edge, outcome=outcome, code=code, message=message)


def plain(text: str) -> str:
    """Return a text as a report may have it: printable, and not too long."""
    return "".join(each if each.isprintable() else "?" for each in text[:TEXT_CHARACTERS_MAX])


def _encode(what: str, /, **fields: object) -> bytes:
    return json.dumps({"v": VERSION, "type": what, **fields}).encode()


def _decode(data: bytes, kind: str) -> dict[str, Any]:
    if len(data) > MESSAGE_BYTES_MAX:
        raise RemoteProtocolError(f"{len(data)} bytes are more than {MESSAGE_BYTES_MAX}")
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        raise RemoteProtocolError("it is not JSON") from None
    if not isinstance(fields, dict) or fields.get("type") != kind:
        raise RemoteProtocolError(f"it is no {kind}")
    version = fields.get("v")
    if type(version) is not int or version < 1:
        raise RemoteProtocolError("v is no version")
    if version > VERSION:
        raise UnknownVersion
    if not _ID.fullmatch(str(fields.get("id"))) or not isinstance(fields["id"], str):
        raise RemoteProtocolError("id is no id")
    return fields


def _shown(text: str) -> str:
    return repr(text if len(text) <= KEY_CHARACTERS_MAX else text[:KEY_CHARACTERS_MAX] + "...")
