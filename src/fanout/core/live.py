"""A snapshot of a running sidecar and its fleet, and its problems in one line each.

The live page and `fanout-sidecar top` show these values. The fields are those of the JSON at /live,
see docs/ops/live-page.md. Rates are per second, and None while unknown. Counts without a time are
since the start, or since the sidecar has known the node.
"""

from collections.abc import Iterator, Mapping, Sequence

import attrs

SLOW_BYTES = 65_536
"""Bytes that wait for a node above which it is shown as slow."""
SLOW_SECONDS = 0.25
"""The duration of a probe above which a node is shown as slow."""


def _word(node: "LiveNode") -> str:
    active = node.state == "active"
    if active and not node.usable:
        return "unreachable"
    if node.unheard or node.unheard_by_count:
        return "not heard"
    if not active:
        return node.state
    if node.fenced:
        return "refusing"
    if node.uncovered_by_count:
        return "not covered"
    slow = node.outbox_bytes > SLOW_BYTES or (node.probe_seconds or 0.0) > SLOW_SECONDS
    return "slow" if slow else "active"


@attrs.frozen(kw_only=True)
class LiveNode:
    """One node, as seen by this sidecar and as reported by the other sidecars."""

    id: str
    address: str
    state: str  # joining, active or draining
    incarnation: int
    usable: bool  # messages can be sent to it
    covered: bool  # this sidecar is subscribed there to all that its clients subscribe to
    unheard: bool  # this sidecar cannot hear it
    fenced: bool  # it refuses publishes
    covered_by: int  # sidecars, this one included
    uncovered_by: Sequence[str]  # sidecars that do not cover it; the first few
    uncovered_by_count: int
    unheard_by: Sequence[str]  # sidecars that cannot hear it; the first few
    unheard_by_count: int
    published_messages: int  # by this sidecar
    published_per_second: float | None
    received_messages: int  # by this sidecar
    received_per_second: float | None
    outbox_bytes: int  # that wait to be sent
    probe_seconds: float | None  # duration of the last probe
    gaps: int  # times that messages from it may have been missed
    word: str = attrs.field(init=False, default=attrs.Factory(_word, takes_self=True))
    """The summary: active, or the most important deviation."""


@attrs.frozen(kw_only=True)
class LiveLoss:
    """A node that fell silent and has not come back."""

    id: str
    ago_seconds: float


@attrs.frozen(kw_only=True)
class LiveSidecar:
    """One sidecar as its record in discovery says; this sidecar from its own state."""

    id: str
    covered: Sequence[str]  # nodes
    stopped: Sequence[str]  # draining nodes on which it has stopped publishing
    deaf: Sequence[str]  # nodes that it cannot hear


@attrs.frozen(kw_only=True)
class LiveDoor:
    """One door of this sidecar."""

    name: str  # resp or ws
    address: str
    tls: bool
    has_users: bool  # clients must log in
    clients: int
    subscriptions: int
    published_per_second: float | None
    delivered_per_second: float | None
    outbox_bytes: int
    outbox_largest_bytes: int
    cut: int  # clients disconnected by this sidecar
    refused: int  # connections refused because the door was full


@attrs.frozen(kw_only=True)
class LiveClient:
    """One client of this sidecar."""

    door: str
    id: int
    address: str
    name: str  # set by the client; empty: none
    published_per_second: float | None
    delivered_per_second: float | None
    outbox_bytes: int  # that wait to be sent
    subscriptions: int


@attrs.frozen(kw_only=True)
class LiveChannel:
    """One busy channel; names are escaped and truncated."""

    name: str
    received_per_second: float
    published_per_second: float


@attrs.frozen(kw_only=True)
class LivePublishes:
    """The outcomes of messages that clients of this sidecar published."""

    executed: int
    executed_per_second: float | None
    failed: Mapping[str, int]  # code -> messages
    failed_per_second: float | None
    retries: int
    waiting: int  # for a usable node


@attrs.frozen(kw_only=True)
class LiveDiscovery:
    """One discovery instance."""

    instance: str
    readable: bool
    writable: bool
    error: str  # code of the last failed write, if no write has succeeded since
    read_age_seconds: float | None


@attrs.frozen(kw_only=True)
class Live:
    """One snapshot of a sidecar and its fleet."""

    number: int  # of this snapshot, since the sidecar started
    at: float  # seconds since 1970
    seconds: float | None  # covered by the rates; None in the first snapshot
    cluster: str
    sidecar: str
    version: str
    uptime_seconds: float
    loop_lag_seconds: float
    ready: bool
    reason: str  # why it is not ready
    frozen: bool  # no discovery instance can be read
    nodes: Sequence[LiveNode]
    unknown: Sequence[str]  # nodes that others hear and that are missing in discovery
    lost: Sequence[LiveLoss]  # in the last ten minutes
    sidecars: Sequence[LiveSidecar]  # this one, then those with a problem; the first few
    sidecars_count: int
    doors: Sequence[LiveDoor]
    consumers: Sequence[LiveClient]  # the slowest and the busiest
    consumers_count: int
    channels: Sequence[LiveChannel]  # the busiest
    publishes: LivePublishes
    discovery: Sequence[LiveDiscovery]


MINUTE_SECONDS = 60
"""Times from this length on are shown in minutes."""


@attrs.frozen
class Problem:
    """Something that is wrong."""

    level: str  # error: messages are lost or refused; warning: they may be after a further fault
    text: str


def problems(live: Live) -> list[Problem]:
    """Return the problems of a snapshot, errors first."""
    found = [*_own_problems(live), *_discovery_problems(live)]
    for node in live.nodes:
        found += _node_problems(node)
    found += [
        Problem("error", f"{node} is heard by other sidecars but missing in discovery")
        for node in live.unknown
    ]
    found += [
        Problem("warning", f"{each.id} fell silent and was removed {_ago(each.ago_seconds)}")
        for each in live.lost
    ]
    return sorted(found, key=lambda each: each.level != "error")


def _own_problems(live: Live) -> Iterator[Problem]:
    if not live.ready:
        yield Problem("error", f"This sidecar is not ready: {live.reason}")
    if live.publishes.failed_per_second:
        rate = f"{live.publishes.failed_per_second:g}"
        yield Problem("error", f"{rate} publishes per second fail")
    elif live.publishes.waiting:
        yield Problem("warning", f"{live.publishes.waiting} messages are waiting for a usable node")


def _discovery_problems(live: Live) -> Iterator[Problem]:
    if live.frozen:
        yield Problem("warning", "Discovery cannot be read: the fleet is shown as last seen")
        return
    for each in live.discovery:
        if not each.readable:
            yield Problem("warning", f"Discovery {each.instance} cannot be read")
        elif not each.writable:
            yield Problem("warning", f"Discovery {each.instance} cannot be written to")


def _node_problems(node: LiveNode) -> Iterator[Problem]:
    if node.unheard:
        yield Problem("error", f"{node.id} is not heard by this sidecar")
    elif node.unheard_by_count:
        yield Problem(
            "error", f"{node.id} is not heard by {_some(node.unheard_by, node.unheard_by_count)}"
        )
    if node.state == "joining":
        yield Problem("warning", f"{node.id} is joining")
        return
    if node.state == "draining":
        yield Problem("warning", f"{node.id} is draining")
        return
    if not node.usable:
        yield Problem("error", f"{node.id} is unreachable from this sidecar")
    elif node.fenced:
        yield Problem("warning", f"{node.id} refuses publishes")
    if node.uncovered_by_count and not node.unheard:
        names = _some(node.uncovered_by, node.uncovered_by_count)
        yield Problem("warning", f"{node.id} is not covered by {names}")


def _ago(seconds: float) -> str:
    return f"{seconds:.0f} s ago" if seconds < MINUTE_SECONDS else f"{seconds / 60:.0f} min ago"


def _some(names: Sequence[str], count: int) -> str:
    more = count - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")
