"""What a sidecar shows of its fleet while it runs, and what of that is wrong, in one line each.

These are the values behind the live page and `fanout-sidecar top`: the fields are those of the
JSON at /live, see docs/ops/live-page.md. Rates are per second, and None where nothing is known
yet; counts without a time are since the start, or since the sidecar has known the node.
"""

from collections.abc import Iterator, Mapping, Sequence

import attrs

SLOW_BYTES = 65_536
"""Waiting for a node: more than a moment's worth."""
SLOW_SECONDS = 0.25
"""That a probe takes on a node that is slow."""


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
    """One node as this sidecar sees it, and as the other sidecars say."""

    id: str
    address: str
    state: str  # joining, active or draining
    incarnation: int
    usable: bool  # messages can be sent to it
    covered: bool  # this sidecar is subscribed there for all its clients
    unheard: bool  # this sidecar cannot hear it
    fenced: bool  # it refuses publishes
    covered_by: int  # sidecars, this one included
    uncovered_by: Sequence[str]  # those that do not cover it; the first few
    uncovered_by_count: int
    unheard_by: Sequence[str]  # those that cannot hear it; the first few
    unheard_by_count: int
    published_messages: int  # handed to it by this sidecar
    published_per_second: float | None
    received_messages: int  # delivered by it to this sidecar
    received_per_second: float | None
    outbox_bytes: int  # wait for it
    probe_seconds: float | None  # how long the last probe took
    gaps: int  # times that messages of it may have been missed
    word: str = attrs.field(init=False, default=attrs.Factory(_word, takes_self=True))
    """What matters most: active, or what it is instead."""


@attrs.frozen(kw_only=True)
class LiveLoss:
    """A node that fell silent, and did not come back."""

    id: str
    ago_seconds: float


@attrs.frozen(kw_only=True)
class LiveSidecar:
    """What one sidecar says of itself in discovery; of this one, what it knows."""

    id: str
    covered: Sequence[str]  # nodes
    stopped: Sequence[str]  # draining nodes that it has left
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
    cut: int  # clients that this sidecar has disconnected
    refused: int  # connections refused since the door was full


@attrs.frozen(kw_only=True)
class LiveClient:
    """One client of this sidecar."""

    door: str
    id: int
    address: str
    name: str  # that it gave itself; empty: none
    published_per_second: float | None
    delivered_per_second: float | None
    outbox_bytes: int  # wait for it
    subscriptions: int


@attrs.frozen(kw_only=True)
class LiveChannel:
    """One busy channel; names are escaped and cut."""

    name: str
    received_per_second: float
    published_per_second: float


@attrs.frozen(kw_only=True)
class LivePublishes:
    """What became of messages that clients of this sidecar published."""

    executed: int
    executed_per_second: float | None
    failed: Mapping[str, int]  # code -> messages
    failed_per_second: float | None
    retries: int
    waiting: int  # for a node that can take them


@attrs.frozen(kw_only=True)
class LiveDiscovery:
    """One discovery instance."""

    instance: str
    readable: bool
    writable: bool
    error: str  # code of the last write that failed, if nothing was written since
    read_age_seconds: float | None


@attrs.frozen(kw_only=True)
class Live:
    """One look at a sidecar and its fleet."""

    number: int  # of this look, in the life of the sidecar
    at: float  # seconds since 1970
    seconds: float | None  # that the rates speak of; None: this is the first look
    cluster: str
    sidecar: str
    version: str
    uptime_seconds: float
    loop_lag_seconds: float
    ready: bool
    reason: str  # why not
    frozen: bool  # no discovery instance can be read
    nodes: Sequence[LiveNode]
    unknown: Sequence[str]  # nodes that others hear, and discovery does not tell of
    lost: Sequence[LiveLoss]  # of the last ten minutes
    sidecars: Sequence[LiveSidecar]  # this one, then those with something wrong; the first few
    sidecars_count: int
    doors: Sequence[LiveDoor]
    consumers: Sequence[LiveClient]  # the slowest and the busiest
    consumers_count: int
    channels: Sequence[LiveChannel]  # the busiest
    publishes: LivePublishes
    discovery: Sequence[LiveDiscovery]


MINUTE_SECONDS = 60
"""From when on a time is told in minutes."""


@attrs.frozen
class Problem:
    """Something that is not as it should be."""

    level: str  # error: messages are lost or refused; warning: they may be, if more goes wrong
    text: str


def problems(live: Live) -> list[Problem]:
    """Return what is wrong, the worst first."""
    found = [*_own_problems(live), *_discovery_problems(live)]
    for node in live.nodes:
        found += _node_problems(node)
    found += [
        Problem("error", f"{node} is heard by other sidecars, but discovery has forgotten it")
        for node in live.unknown
    ]
    found += [
        Problem("warning", f"{each.id} fell silent and was given up {_ago(each.ago_seconds)}")
        for each in live.lost
    ]
    return sorted(found, key=lambda each: each.level != "error")


def _own_problems(live: Live) -> Iterator[Problem]:
    if not live.ready:
        yield Problem("error", f"This sidecar is not ready: {live.reason}")
    if live.publishes.failed_per_second:
        rate = f"{live.publishes.failed_per_second:g}"
        yield Problem("error", f"{rate} publishes a second fail")
    elif live.publishes.waiting:
        yield Problem("warning", f"{live.publishes.waiting} messages wait for a node to take them")


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
        yield Problem("error", f"{node.id} cannot be published to by this sidecar")
    elif node.fenced:
        yield Problem("warning", f"{node.id} refuses messages")
    if node.uncovered_by_count and not node.unheard:
        names = _some(node.uncovered_by, node.uncovered_by_count)
        yield Problem("warning", f"{node.id} is not covered by {names}")


def _ago(seconds: float) -> str:
    return f"{seconds:.0f} s ago" if seconds < MINUTE_SECONDS else f"{seconds / 60:.0f} min ago"


def _some(names: Sequence[str], count: int) -> str:
    more = count - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")
