"""Snapshots of a running sidecar for people: a `Live` each, with the rates since the last one.

A snapshot iterates over all clients, at about 2 us each, and over the reports of each sidecar about
each node, at about 0.1 us each. Between `begin` and `end` the busiest channels are counted too, at
about 0.4 us per message, and the deliveries of each client, at about 0.04 us each. Otherwise
nothing is counted for snapshots.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from heapq import nlargest, nsmallest
from math import inf
from typing import Any

import attrs
import trio

import fanout
from fanout.config import SidecarConfig
from fanout.core.live import (
    Live,
    LiveChannel,
    LiveClient,
    LiveDiscovery,
    LiveDoor,
    LiveLoss,
    LiveNode,
    LivePublishes,
    LiveSidecar,
)
from fanout.core.rates import Rates
from fanout.runtime.discovery.registry import InstanceStatistics
from fanout.runtime.sidecar.clients import ClientsStatistics, Counted
from fanout.runtime.sidecar.fanout import Fanout
from fanout.runtime.sidecar.fleet import Fleet
from fanout.runtime.sidecar.member_log import MemberLog
from fanout.runtime.sidecar.node_link import NodeLink
from fanout.runtime.sidecar.nodes import Nodes
from fanout.values.names import Endpoint, NodeId, SidecarId
from fanout.values.records import NodeState, SidecarRecord
from fanout.values.requests import Encoding

CLIENTS_SHOWN = 50
"""At most half of them are the slowest, the others the busiest."""

CHANNELS_SHOWN = 20
SIDECARS_SHOWN = 50

NAMES_SHOWN = 5
"""The most sidecars listed that do not cover or hear a node; the others are counted."""

LOST_SECONDS = 600.0
"""How long a node whose lease expired is shown as lost."""

Key = tuple[Any, ...]


@attrs.frozen(kw_only=True)
class Shown:
    """The sources of the snapshots."""

    config: SidecarConfig
    fleet: Fleet
    fanout: Fanout
    nodes: Nodes
    member_log: MemberLog
    has_users: bool  # whether clients must log in
    discovery: Callable[[], Sequence[InstanceStatistics]]
    doors: Mapping[str, Endpoint]
    tls: bool
    unready: Callable[[], str]
    loop_lag_seconds: Callable[[], float]
    wall_milliseconds: Callable[[], int]


class Snapshots:
    """Captures successive snapshots of one sidecar."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        self._fleet, self._fanout, self._nodes = shown.fleet, shown.fanout, shown.nodes
        self._rates: Rates[Key] = Rates()
        self._published: Rates[Counted] = Rates()  # by each client
        self._delivered: Rates[Counted] = Rates()
        self._number = 0
        self._began = trio.current_time()

    def begin(self) -> None:
        """Start the counters that run only between `begin` and `end`."""
        self._fanout.begin_counting()
        self._rates, self._published, self._delivered = Rates(), Rates(), Rates()

    def end(self) -> None:
        """Stop the counters that `begin` started."""
        self._fanout.end_counting()
        self._published, self._delivered = Rates(), Rates()  # they refer to clients

    def wall_seconds(self, at: float) -> float:
        """Return the seconds since 1970 for a time of trio's clock, by the present wall clock."""
        return self._shown.wall_milliseconds() / 1000 - (trio.current_time() - at)

    def capture(self) -> Live:
        """Return a snapshot of the sidecar."""
        config, nodes, now = self._shown.config, self._nodes, trio.current_time()
        self._number += 1
        sidecars = self._sidecars()
        fleet, statistics = self._fleet.statistics(), self._fanout.statistics()
        clients = [(door, each) for door, c in self._fanout.clients.items() for each in c.present]
        publishes = statistics.publisher
        delivered = statistics.dispatch.deliveries
        json = delivered[Encoding.JSON]
        counters: dict[Key, int] = {
            ("executed",): publishes.executed.count,
            ("failed",): sum(publishes.failed.values()),
            ("delivered", "ws"): json,
            ("delivered", "resp"): sum(delivered.values()) - json,
            **{("published", each.door): each.published for each in statistics.clients},
            **{("out", name): node.published for name, node in nodes.items()},
            **{("in", name): node.received for name, node in nodes.items()},
        }
        rates = self._rates
        rates.advance(counters, now)
        self._published.advance({each: each.published for _, each in clients}, now)
        self._delivered.advance({each: each.delivered for _, each in clients}, now)
        unready = self._shown.unready()
        fenced = self._fanout.refusing()
        return Live(
            number=self._number,
            at=round(self._shown.wall_milliseconds() / 1000, 3),
            seconds=None if rates.seconds is None else round(rates.seconds, 3),
            cluster=config.cluster,
            sidecar=config.id,
            version=fanout.__version__,
            uptime_seconds=round(now - self._began, 1),
            loop_lag_seconds=round(self._shown.loop_lag_seconds(), 4),
            ready=not unready,
            reason=unready,
            frozen=fleet.frozen,
            nodes=[self._node(node, sidecars, rates, fenced) for _, node in sorted(nodes.items())],
            unknown=sorted(self._fleet.unknown),
            lost=self._lost(now),
            sidecars=[_sidecar(each) for each in self._worst_first(sidecars)],
            sidecars_count=len(sidecars),
            doors=[self._door(each, rates) for each in statistics.clients],
            consumers=[self._client(door, each) for door, each in self._chosen(clients)],
            consumers_count=len(clients),
            channels=self._channels(),
            publishes=LivePublishes(
                executed=publishes.executed.count,
                executed_per_second=rates["executed",],
                failed=dict(publishes.failed),
                failed_per_second=rates["failed",],
                retries=publishes.retries,
                waiting=publishes.waiting,
            ),
            discovery=[
                LiveDiscovery(
                    instance=each.instance,
                    readable=each.readable,
                    writable=each.writable,
                    error=each.error,
                    read_age_seconds=None if each.read_at == -inf else round(now - each.read_at, 1),
                )
                for each in self._shown.discovery()
            ],
        )

    def _lost(self, now: float) -> list[LiveLoss]:
        """Return the nodes whose lease expired recently, from the kept events."""
        lost: dict[str, float] = {}
        for each in self._shown.member_log.since(0):
            if each.event == "member_joined":
                lost.pop(each.facts["node"], None)
            elif each.event == "member_left" and each.facts["reason"] == "expired":
                lost[each.facts["node"]] = now - each.at
        return [
            LiveLoss(id=node, ago_seconds=round(ago, 1))
            for node, ago in lost.items()
            if ago <= LOST_SECONDS
        ]

    def _sidecars(self) -> Collection[SidecarRecord]:
        """Return the records of all sidecars; the own one with the present reports."""
        own = SidecarId(self._shown.config.id)
        record = SidecarRecord(
            cluster=self._shown.config.cluster,
            sidecar=own,
            incarnation=0,
            version=0,
            lease_seconds=0,
            **self._fleet.reports(),
        )
        return {**self._fleet.sidecars, own: record}.values()

    def _worst_first(self, sidecars: Iterable[SidecarRecord]) -> list[SidecarRecord]:
        own, carrying = self._shown.config.id, len(self._nodes.carrying)

        def rank(record: SidecarRecord) -> tuple[bool, bool, bool, str]:
            covers_less = len(record.covered) < carrying
            return record.sidecar != own, not record.deaf, not covers_less, record.sidecar

        return nsmallest(SIDECARS_SHOWN, sidecars, key=rank)

    def _node(
        self,
        node: NodeLink,
        sidecars: Collection[SidecarRecord],
        rates: Rates[Key],
        fenced: Collection[NodeId],
    ) -> LiveNode:
        record, statistics = node.record, node.statistics()
        name, incarnation = record.node, record.incarnation
        uncovered = [s.sidecar for s in sidecars if s.covered.get(name) != incarnation]
        unheard = [s.sidecar for s in sidecars if s.deaf and s.deaf.get(name) == incarnation]
        return LiveNode(
            id=name,
            address=str(record.endpoint),
            state=record.state.value,
            incarnation=incarnation,
            usable=node.usable,
            covered=node.covered,
            unheard=node.unheard,
            fenced=record.state is NodeState.ACTIVE and name in fenced,
            covered_by=len(sidecars) - len(uncovered),
            uncovered_by=nsmallest(NAMES_SHOWN, uncovered),
            uncovered_by_count=len(uncovered),
            unheard_by=nsmallest(NAMES_SHOWN, unheard),
            unheard_by_count=len(unheard),
            published_messages=statistics.published,
            published_per_second=rates["out", name],
            received_messages=statistics.received,
            received_per_second=rates["in", name],
            outbox_bytes=statistics.bytes.waiting_bytes,
            probe_seconds=round(statistics.probe_seconds, 6) or None,
            gaps=sum(statistics.gaps.values()),
        )

    def _door(self, door: ClientsStatistics, rates: Rates[Key]) -> LiveDoor:
        return LiveDoor(
            name=door.door,
            address=str(self._shown.doors[door.door]),
            tls=self._shown.tls,
            has_users=self._shown.has_users,
            clients=door.present,
            subscriptions=door.subscriptions,
            published_per_second=rates["published", door.door],
            delivered_per_second=rates["delivered", door.door],
            outbox_bytes=door.outbox_bytes,
            outbox_largest_bytes=door.outbox_largest_bytes,
            cut=sum(door.cut.values()),
            refused=door.refused,
        )

    def _chosen(self, clients: list[tuple[str, Counted]]) -> list[tuple[str, Counted]]:
        """Return the slowest clients, then the busiest others."""
        published, delivered = self._published.growth, self._delivered.growth

        def waiting(pair: tuple[str, Counted]) -> int:
            return pair[1].outbox.size

        def traffic(pair: tuple[str, Counted]) -> int:
            return (published(pair[1]) or 0) + (delivered(pair[1]) or 0)

        slowest = nlargest(CLIENTS_SHOWN // 2, (p for p in clients if waiting(p)), key=waiting)
        busiest = nlargest(CLIENTS_SHOWN, clients, key=traffic)
        return list(dict.fromkeys((*slowest, *busiest)))[:CLIENTS_SHOWN]

    def _client(self, door: str, client: Counted) -> LiveClient:
        label = client.label()
        return LiveClient(
            door=door,
            id=label.id,
            address=label.address,
            name=label.name,
            published_per_second=self._published[client],
            delivered_per_second=self._delivered[client],
            outbox_bytes=client.outbox.size,
            subscriptions=client.subscriptions,
        )

    def _channels(self) -> list[LiveChannel]:
        traffic, seconds = self._fanout.traffic, self._rates.seconds
        if traffic is None or seconds is None:
            return []
        return traffic.busiest(seconds, CHANNELS_SHOWN)


def _sidecar(record: SidecarRecord) -> LiveSidecar:
    return LiveSidecar(
        id=record.sidecar,
        covered=sorted(record.covered),
        stopped=sorted(record.stopped),
        deaf=sorted(record.deaf),
    )
