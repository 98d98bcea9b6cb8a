"""Looks at a running sidecar for people: a `Live` at each look, with the rates since the last one.

A look goes through all clients, at about 2 us for each, and through what each sidecar says of each
node, at about 0.1 us. While somebody looks, the busiest channels are counted as well, at about
0.4 us for each message, and the deliveries of each client, at about 0.04 us each. While nobody
does, this costs nothing.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from heapq import nlargest, nsmallest
from math import inf
from typing import Any

import attrs
import trio

import fanout
from fanout.core.live import (
    Live,
    LiveChannel,
    LiveConsumer,
    LiveDiscovery,
    LiveDoor,
    LiveLoss,
    LiveNode,
    LivePublishes,
    LiveSidecar,
)
from fanout.core.rates import Rates
from fanout.runtime.discovery.registry import Registry
from fanout.runtime.sidecar.consumers import ConsumersStatistics, Counted
from fanout.runtime.sidecar.hub import Hub
from fanout.runtime.sidecar.node_link import NodeLink
from fanout.runtime.sidecar.traffic import Traffic
from fanout.values.names import Endpoint, NodeId, SidecarId
from fanout.values.records import NodeState, SidecarRecord
from fanout.values.requests import Encoding

CONSUMERS_SHOWN = 50
"""Half of them the slowest, the others the busiest."""

CHANNELS_SHOWN = 20
SIDECARS_SHOWN = 50

NAMES_SHOWN = 5
"""Sidecars that are named where a node is not covered or not heard; the others are counted."""

LOST_SECONDS = 600.0
"""How long a node that fell silent is shown as lost."""

Key = tuple[Any, ...]


@attrs.frozen(kw_only=True)
class Shown:
    """What the looks show besides the hub and the registry."""

    doors: Mapping[str, Endpoint]
    tls: bool
    unready: Callable[[], str]
    loop_lag_seconds: Callable[[], float]
    wall_milliseconds: Callable[[], int]


class Looks:
    """Takes looks at one sidecar."""

    def __init__(self, hub: Hub, registry: Registry, shown: Shown) -> None:
        self._hub = hub
        self._registry = registry
        self._shown = shown
        self._rates: Rates[Key] = Rates()
        self._published: Rates[Counted] = Rates()  # by each client
        self._delivered: Rates[Counted] = Rates()
        self._number = 0
        self._began = trio.current_time()

    def begin(self) -> None:
        """Count what is counted only while somebody looks."""
        self._hub.traffic = Traffic()
        self._hub.dispatch.counting = True
        self._rates, self._published, self._delivered = Rates(), Rates(), Rates()

    def end(self) -> None:
        """Count it no more."""
        self._hub.traffic = None
        self._hub.dispatch.counting = False
        self._published, self._delivered = Rates(), Rates()  # which hold clients

    def wall_seconds(self, at: float) -> float:
        """Return the seconds since 1970 of a moment of trio's clock, as well as is known now."""
        return self._shown.wall_milliseconds() / 1000 - (trio.current_time() - at)

    def take(self) -> Live:
        """Look."""
        hub, now = self._hub, trio.current_time()
        self._number += 1
        sidecars = self._sidecars()
        statistics = hub.statistics()
        consumers = [(door, each) for door, c in hub.consumers.items() for each in c.present]
        publishes = statistics.publisher
        delivered = statistics.dispatch.deliveries
        json = delivered[Encoding.JSON]
        counters: dict[Key, int] = {
            ("executed",): publishes.executed.count,
            ("failed",): sum(publishes.failed.values()),
            ("delivered", "ws"): json,
            ("delivered", "resp"): sum(delivered.values()) - json,
            **{("published", each.door): each.published for each in statistics.consumers},
            **{("out", name): node.published for name, node in hub.nodes.items()},
            **{("in", name): node.received for name, node in hub.nodes.items()},
        }
        rates = self._rates
        rates.advance(counters, now)
        self._published.advance({each: each.published for _, each in consumers}, now)
        self._delivered.advance({each: each.delivered for _, each in consumers}, now)
        unready = self._shown.unready()
        fenced = hub.publisher.refusing(now)
        return Live(
            number=self._number,
            at=round(self._shown.wall_milliseconds() / 1000, 3),
            seconds=None if rates.seconds is None else round(rates.seconds, 3),
            cluster=hub.config.cluster,
            sidecar=hub.config.id,
            version=fanout.__version__,
            uptime_seconds=round(now - self._began, 1),
            loop_lag_seconds=round(self._shown.loop_lag_seconds(), 4),
            ready=not unready,
            reason=unready,
            frozen=statistics.frozen,
            nodes=[
                self._node(node, sidecars, rates, fenced) for _, node in sorted(hub.nodes.items())
            ],
            unknown=sorted(hub.unknown),
            lost=self._lost(now),
            sidecars=[_sidecar(each) for each in self._worst_first(sidecars)],
            sidecars_count=len(sidecars),
            doors=[self._door(each, rates) for each in statistics.consumers],
            consumers=[self._consumer(door, each) for door, each in self._chosen(consumers)],
            consumers_count=len(consumers),
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
                for each in self._registry.statistics()
            ],
        )

    def _lost(self, now: float) -> list[LiveLoss]:
        """Return the nodes that fell silent lately, as far as that is remembered."""
        lost: dict[str, float] = {}
        for each in self._hub.member_log.since(0):
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
        """Return what all sidecars say; of this one, what is so now."""
        hub = self._hub
        own = SidecarId(hub.config.id)
        record = SidecarRecord(
            cluster=hub.config.cluster,
            sidecar=own,
            incarnation=0,
            version=0,
            lease_seconds=0,
            **hub.own_words(),
        )
        return {**hub.membership.sidecars, own: record}.values()

    def _worst_first(self, sidecars: Iterable[SidecarRecord]) -> list[SidecarRecord]:
        own, carrying = self._hub.config.id, len(self._hub.carrying)

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
        name, life = record.node, record.incarnation
        uncovered = [s.sidecar for s in sidecars if s.covered.get(name) != life]
        deaf = [s.sidecar for s in sidecars if s.deaf and s.deaf.get(name) == life]
        return LiveNode(
            id=name,
            address=str(record.endpoint),
            state=record.state.value,
            incarnation=life,
            usable=node.usable,
            covered=node.covered,
            deaf=node.deaf,
            fenced=record.state is NodeState.ACTIVE and name in fenced,
            covered_by=len(sidecars) - len(uncovered),
            uncovered_by=nsmallest(NAMES_SHOWN, uncovered),
            uncovered_by_count=len(uncovered),
            deaf_for=nsmallest(NAMES_SHOWN, deaf),
            deaf_for_count=len(deaf),
            published_messages=statistics.published,
            published_per_second=rates["out", name],
            received_messages=statistics.received,
            received_per_second=rates["in", name],
            outbox_bytes=statistics.bytes.waiting_bytes,
            probe_seconds=round(statistics.probe_seconds, 6) or None,
            gaps=sum(statistics.gaps.values()),
        )

    def _door(self, door: ConsumersStatistics, rates: Rates[Key]) -> LiveDoor:
        return LiveDoor(
            name=door.door,
            address=str(self._shown.doors[door.door]),
            tls=self._shown.tls,
            has_users=self._hub.gate.has_users,
            clients=door.present,
            subscriptions=door.subscriptions,
            published_per_second=rates["published", door.door],
            delivered_per_second=rates["delivered", door.door],
            outbox_bytes=door.outbox_bytes,
            outbox_largest_bytes=door.outbox_largest_bytes,
            cut=sum(door.cut.values()),
            refused=door.refused,
        )

    def _chosen(self, consumers: list[tuple[str, Counted]]) -> list[tuple[str, Counted]]:
        """Return the slowest consumers, then the busiest others."""
        published, delivered = self._published.growth, self._delivered.growth

        def waiting(pair: tuple[str, Counted]) -> int:
            return pair[1].outbox.size

        def traffic(pair: tuple[str, Counted]) -> int:
            return (published(pair[1]) or 0) + (delivered(pair[1]) or 0)

        slowest = nlargest(CONSUMERS_SHOWN // 2, (p for p in consumers if waiting(p)), key=waiting)
        busiest = nlargest(CONSUMERS_SHOWN, consumers, key=traffic)
        return list(dict.fromkeys((*slowest, *busiest)))[:CONSUMERS_SHOWN]

    def _consumer(self, door: str, consumer: Counted) -> LiveConsumer:
        label = consumer.label()
        return LiveConsumer(
            door=door,
            id=label.id,
            address=label.address,
            name=label.name,
            published_per_second=self._published[consumer],
            delivered_per_second=self._delivered[consumer],
            outbox_bytes=consumer.outbox.size,
            subscriptions=consumer.subscriptions,
        )

    def _channels(self) -> list[LiveChannel]:
        traffic, seconds = self._hub.traffic, self._rates.seconds
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
