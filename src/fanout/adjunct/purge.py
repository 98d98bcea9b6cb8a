"""Purges of HTTP caches: published once, applied by an edge beside every cache.

    async with open_client("ws://127.0.0.1:7380/") as client:
        answers = await send_purge(client, by_key("article-7"), origin="editor", wait_seconds=10)
        assert answers.whole

Pub/sub is at most once, and an edge applies a purge once, by its id. So a publisher that waits for
reports repeats its purge: an edge that missed it applies it, the others send their last report.
"""

import re
import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from enum import Enum
from functools import partial
from typing import Any

import attrs
import trio

from fanout.client import Client, Message
from fanout.config import mask
from fanout.errors import ConfigError, RemoteProtocolError, RequestFailed
from fanout.runtime.process.text import escape
from fanout.wire.records import decode_fields, encode_record, read_name

PURGES, REPORTS = "purge:", "purge-report:"  # channels, followed by the name of a pool
NAMES_MAX = 64  # per purge: each name costs every edge a request
TEXT_CHARACTERS_MAX = 512  # of an invalid name in an error, and of a report's message
EDGES_MAX = 10_000  # with reports kept
REPEAT_SECONDS = 1.0  # interval between repeats of a purge
PASSING = {"no_node", "publish_failed", "outcome_unknown"}  # errors that are retried


class Kind(Enum):
    """How a purge identifies pages."""

    URL = "url"
    KEY = "key"
    ALL = "all"


class Outcome(Enum):
    """Outcome of a purge at an edge."""

    PENDING = "pending"  # received
    APPLIED = "applied"  # its cache no longer serves the purged pages
    FAILED = "failed"  # for the reason in the report's code


# Names are safe in a header, a JSON string and, except for the dot, a regular expression.
URL = re.compile(
    r"(?ai)(?=.{1,2048}\Z)(https?)://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[1-9][0-9]{0,4})?"
    r"([/?][!$-;=?-\[\]-~]*)?"
)
KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@=~-]{0,255}")
ALLOWED = {
    Kind.URL: "http://HOST/PATH or https://HOST/PATH as visitors send it, at most 2048 ASCII characters, no user, no #",
    Kind.KEY: "1 to 256 letters, digits or any of . _ : / @ = ~ -, a letter or digit first",
}


@attrs.frozen
class Target:
    """The pages to purge; see `by_url`, `by_key`, `everything`. Raises ConfigError."""

    kind: Kind
    names: tuple[str, ...] = ()

    def __attrs_post_init__(self) -> None:
        if bool(self.names) is (self.kind is Kind.ALL) or len(self.names) > NAMES_MAX:
            allowed = "no name" if self.kind is Kind.ALL else f"1 to {NAMES_MAX} names"
            raise ConfigError(f"{self.kind.value}: {len(self.names)} names, expected {allowed}")
        for name in self.names:
            if not (URL if self.kind is Kind.URL else KEY).fullmatch(name):
                shown = mask(name)[:TEXT_CHARACTERS_MAX]
                raise ConfigError(
                    f"{self.kind.value}: invalid value {shown}: expected {ALLOWED[self.kind]}"
                )


def by_url(*urls: str) -> Target:
    """Select pages by the URLs that visitors use, including queries. Raises ConfigError."""
    return Target(Kind.URL, tuple(map(_as_browsers_send, urls)))


def by_key(*keys: str) -> Target:
    """Select pages that have any of these surrogate keys. Raises ConfigError."""
    return Target(Kind.KEY, keys)


def everything() -> Target:
    """Select all pages."""
    return Target(Kind.ALL)


@attrs.frozen(kw_only=True)
class Purge(Target):
    """A purge as it is published. An edge applies it once, by its `id`."""

    id: str
    origin: str  # the publisher, for logs only


@attrs.frozen(kw_only=True)
class Report:
    """Report of an edge about a purge. `code` is stable, and empty unless it failed."""

    id: str
    edge: str
    outcome: Outcome
    code: str = ""
    message: str = ""


@attrs.frozen
class Answers:
    """The last report of each edge about a purge; None if an expected edge has sent none."""

    purge: Purge
    edges: dict[str, Report | None]

    @property
    def pending(self) -> bool:
        """Whether an edge has not finished, or an expected edge has sent no report."""
        return any(each is None or each.outcome is Outcome.PENDING for each in self.edges.values())

    @property
    def whole(self) -> bool:
        """Whether there is at least one edge, and every edge has applied the purge."""
        return {each and each.outcome for each in self.edges.values()} == {Outcome.APPLIED}


async def send_purge(
    client: Client,
    target: Target,
    *,
    origin: str,
    pool: str = "default",
    wait_seconds: float = 0.0,
    expected: Iterable[str] = (),
) -> Answers:
    """Publish a purge; with `wait_seconds`, collect reports until all edges are done or it times out.

    All edges are done when each in `expected`, and each other that reported, has applied the purge or
    failed. Without `expected` this takes two rounds of a second: an edge that missed the first round
    reports in the second. An edge that is down goes unnoticed, unless it is expected.

    With `wait_seconds` this consumes the events of `client`, so use a client of its own. It waits
    for a connection without limit: put it under `trio.fail_after`.

    Raises:
        RequestFailed: it was not published, or with code `no_edge`, no edge received it.

    """
    purge = Purge(kind=target.kind, names=target.names, id=secrets.token_hex(16), origin=origin)
    data, edges = encode_record(purge), dict[str, Report | None].fromkeys(expected)
    answers = Answers(purge, edges)
    if not wait_seconds:
        if not await client.publish(PURGES + pool, data):
            raise RequestFailed("no_edge", f"no edge of pool {pool} is connected")
        return answers
    await client.subscribe(REPORTS + pool)
    rounds, rounds_min = 0, 1 if edges else 2
    failed = RequestFailed("no_sidecar", "the sidecar accepted no purge in time")
    with trio.move_on_after(wait_seconds):
        while rounds < rounds_min or not edges or answers.pending:
            try:
                await client.publish(PURGES + pool, data)
                rounds += 1
            except RequestFailed as failure:
                failed = failure
                if failure.code not in PASSING:
                    break
            with trio.move_on_after(REPEAT_SECONDS):
                async for event in client:
                    if isinstance(event, Message) and event.channel == REPORTS + pool:
                        _take(answers, event.data)
    if not rounds:
        raise failed
    return answers


def _take(answers: Answers, data: bytes) -> None:
    """Store the last report of each edge; reports about other purges are ignored."""
    with suppress(RemoteProtocolError):
        report = decode(Report, data)
        if report.id == answers.purge.id and len(answers.edges) < EDGES_MAX:
            answers.edges[report.edge] = report


def _as_browsers_send(url: str) -> str:
    """Return a URL with its host in lower case, no default port, and a path."""
    if not (found := URL.fullmatch(url)):
        return url  # `Target` raises the error
    scheme, host, port, rest = (each or "" for each in found.groups())
    port = "" if f"{scheme}{port}".lower() in ("http:80", "https:443") else port
    return f"{scheme}://{host}{port}".lower() + (rest if rest.startswith("/") else f"/{rest}")


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValueError("not a list of strings")
    return tuple(value)


READERS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("id", "origin", "edge"), read_name),
    "kind": Kind,
    "names": _texts,
    "outcome": Outcome,
    "code": lambda value: read_name(value) if value else "",
    "message": lambda value: escape(str(value)[:TEXT_CHARACTERS_MAX]),
}

decode = partial(decode_fields, bytes_max=256 * 1024, readers=READERS)
"""Decodes a `Purge` or `Report`. Raises RemoteProtocolError; ConfigError for an invalid target."""
