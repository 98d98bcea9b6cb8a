"""Publishing a purge, and collecting what the edges say about it.

Pub/sub is at most once, and an edge takes a purge once by its id. So whoever waits publishes the
same purge again and again: an edge that missed it gets it, and one that has it says how it stands.
"""

import math
import secrets
import time
from collections.abc import Collection, Iterable, Mapping

import attrs
import trio

from fanout.adjunct.purge.message import (
    Outcome,
    Purge,
    Report,
    Target,
    UnknownVersion,
    decode_report,
    purge_channel,
    report_channel,
)
from fanout.adjunct.purge.sidecar import open_sidecar
from fanout.client import Client, Message
from fanout.config import PurgeConfig
from fanout.errors import RemoteProtocolError, RequestFailed
from fanout.wire.records import encode_record

REPEAT_SECONDS = 1.0
"""Between two publishes of a purge that is waited for."""

ROUNDS_MIN = 2
"""Publishes before nobody else is expected to answer: one of them may be lost."""

EDGES_MAX = 10_000
"""Edges whose reports are kept."""

PASSING = {"no_node", "publish_failed", "outcome_unknown"}
"""Failures of a publish after which the same purge may be published again."""


@attrs.frozen
class Answers:
    """What became of a purge: the last report of each edge, or None from one that was expected."""

    purge: Purge
    edges: Mapping[str, Report | None]

    @property
    def pending(self) -> bool:
        """Whether an edge is still at it, or is yet to be heard."""
        waiting = (None, Outcome.PENDING)
        return any((report and report.outcome) in waiting for report in self.edges.values())

    @property
    def whole(self) -> bool:
        """Whether there are edges and each of them has applied it."""
        reports = self.edges.values()
        return bool(reports) and all(
            report is not None and report.outcome is Outcome.APPLIED for report in reports
        )


async def send_purge(
    client: Client,
    target: Target,
    *,
    origin: str,
    pool: str = "default",
    wait_seconds: float = 0.0,
    expected: Iterable[str] = (),
) -> Answers:
    """Publish a purge; with `wait_seconds`, collect reports until all is said or the time is over.

    All is said when every edge in `expected`, and every other that answered, has applied it or
    failed. Without `expected` it takes two rounds of a second, so that an edge that missed the
    first answers the second. An edge that is not running answers nothing: name it in `expected`
    to see that it is missing.

    With `wait_seconds` the events of `client` are taken, so it needs a client of its own. It waits
    for a connection without limit: put it under `trio.fail_after`.

    Raises:
        RequestFailed: it was not published. With code `no_edge`, nobody is there to receive it.

    """
    purge = Purge(
        id=secrets.token_hex(16),
        kind=target.kind,
        names=target.names,
        time=time.time(),
        origin=origin,
    )
    data, channel = encode_record(purge), purge_channel(pool)
    if not wait_seconds:
        try:
            receivers = await client.publish(channel, data)
        except RequestFailed as failure:
            if failure.code not in PASSING:
                raise
            receivers = await client.publish(channel, data)
        if not receivers:
            raise RequestFailed("no_edge", f"no edge of pool {pool} is connected")
        return Answers(purge, {})
    edges: dict[str, Report | None] = dict.fromkeys(expected)
    answers = Answers(purge, edges)
    await client.subscribe(report_channel(pool))
    rounds, rounds_min = 0, 1 if edges else ROUNDS_MIN
    failed = RequestFailed("no_sidecar", "the sidecar took no purge in time")
    with trio.move_on_after(wait_seconds):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_collect, client, pool, purge.id, edges)
            while rounds < rounds_min or not edges or answers.pending:
                try:
                    await client.publish(channel, data)
                    rounds += 1
                except RequestFailed as failure:
                    failed = failure
                    if failure.code not in PASSING:
                        rounds = 0
                        break
                await trio.sleep(REPEAT_SECONDS)
            nursery.cancel_scope.cancel()
    if not rounds:
        raise failed
    return answers


async def run_purge(
    config: PurgeConfig, target: Target, wait_seconds: float, expected: Collection[str]
) -> Answers:
    """Purge by way of a sidecar that must answer in time.

    Raises:
        ConfigError: a file of certificates cannot be read.
        RequestFailed: it was not published. With code `no_sidecar`, the sidecar did not answer.

    """
    async with open_sidecar(config) as client:
        try:
            with trio.fail_after(config.timeout_seconds) as deadline:
                if wait_seconds:
                    await client.subscribe(report_channel(config.pool))
                    deadline.deadline = math.inf
                return await send_purge(
                    client,
                    target,
                    origin=config.id,
                    pool=config.pool,
                    wait_seconds=wait_seconds,
                    expected=expected,
                )
        except trio.TooSlowError:
            why = client.trouble or "it is silent"
            raise RequestFailed("no_sidecar", f"{config.sidecar} does not answer: {why}") from None


async def _collect(
    client: Client, pool: str, purge_id: str, edges: dict[str, Report | None]
) -> None:
    """Keep the last report of each edge about one purge. Others' reports come on the channel too."""
    async for event in client:
        if not isinstance(event, Message) or event.channel != report_channel(pool):
            continue
        try:
            report = decode_report(event.data)
        except (RemoteProtocolError, UnknownVersion):
            continue
        if report.id == purge_id and (report.edge in edges or len(edges) < EDGES_MAX):
            edges[report.edge] = report
