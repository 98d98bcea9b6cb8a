"""The fleet as a sidecar sees it: membership, the links to the nodes, and hearing.

Input: changes in discovery and of the links. Output: links opened and closed, the nodes that
`Fanout` may publish to, and this sidecar's reports about the nodes. Only `keep_time` waits.
"""

import random
from collections.abc import Callable, Mapping
from functools import partial
from math import inf
from typing import Any

import attrs
import trio

from fanout.config import SidecarConfig
from fanout.core.histogram import LONG_SECONDS, Histogram, HistogramStatistics
from fanout.core.membership import (
    Effect,
    Membership,
    NodeChanged,
    NodeConflict,
    NodeJoined,
    NodeLeft,
    SidecarChanged,
    SidecarJoined,
    SidecarLeft,
)
from fanout.notice import Notice
from fanout.runtime.net.transport import Network
from fanout.runtime.sidecar.fanout import Fanout
from fanout.runtime.sidecar.member_log import MemberLog
from fanout.runtime.sidecar.node_link import NodeLink, NodeStatistics
from fanout.runtime.sidecar.nodes import Nodes
from fanout.values.control import Deaf
from fanout.values.names import CONTROL_CHANNEL, NodeId, SidecarId
from fanout.values.records import NodeRecord, NodeState, SidecarRecord, Snapshot
from fanout.wire.records import encode_control
from fanout.wire.redis.client import pack

OnGap = Callable[[NodeId, str], None]
"""Called with a node and a reason when messages of the node may have been missed."""


@attrs.frozen(kw_only=True)
class FleetStatistics:
    """A sidecar's membership."""

    nodes: tuple[NodeStatistics, ...]
    joins: HistogramStatistics  # of nodes, as seen from here
    drains: HistogramStatistics
    conflicts: int  # agents found with the node id of another agent
    sidecars: int  # known, this one included
    frozen: bool  # no discovery instance can be read


class Fleet:
    """The membership of a sidecar, its links to the nodes, and its reports about them.

    Args:
        config: the configuration of the sidecar.
        network: opens the connections to the nodes.
        rng: for the jitter of reconnects.
        nursery: runs the links.
        nodes: the links, shared with `fanout`.
        fanout: publishes and subscribes over the links.
        member_log: where changes of the fleet are logged.
        reports_changed: set when `reports` may have changed.
        on_gap: called when messages of a node may have been missed.

    """

    def __init__(
        self,
        config: SidecarConfig,
        network: Network,
        rng: random.Random,
        nursery: trio.Nursery,
        *,
        nodes: Nodes,
        fanout: Fanout,
        member_log: MemberLog,
        reports_changed: Notice,
        on_gap: OnGap,
    ) -> None:
        self._sidecar = SidecarId(config.id)
        self._nursery = nursery
        self._nodes = nodes
        self._hearing = nodes.hearing
        self._fanout = fanout
        self._member_log = member_log
        self._reports_changed = reports_changed
        self._membership = Membership(config.cluster, instances=len(config.discovery))
        self._open = partial(
            NodeLink,
            fleet=self,
            fanout=fanout,
            config=config,
            network=network,
            rng=rng,
            member_log=member_log,
            on_gap=on_gap,
        )
        self._joins = Histogram(LONG_SECONDS)
        self._drains = Histogram(LONG_SECONDS)
        self._conflicts = 0
        self._frozen = False  # as last logged
        self._reported: dict[NodeId, int] = {}  # as last published to the other sidecars
        self._deadline_moved = Notice()

    # Input from discovery.

    def on_snapshot(self, instance: int, snapshot: Snapshot) -> None:
        """Apply a read of one discovery instance."""
        self._apply(self._membership.read(instance, snapshot, trio.current_time()))

    def on_unreachable(self, instance: int) -> None:
        """Record that one discovery instance cannot be read."""
        self._apply(self._membership.unreachable(instance, trio.current_time()))

    async def keep_time(self) -> None:
        """Run the deadlines of the membership until cancelled."""
        while True:
            seen = self._deadline_moved.count
            with trio.move_on_at(self._membership.next_deadline()):
                await self._deadline_moved.wait(seen)
            self._apply(self._membership.advance(trio.current_time()))
            self._reports_changed.set()

    def _apply(self, effects: tuple[Effect, ...]) -> None:
        self._note_discovery()
        for effect in effects:
            match effect:
                case NodeJoined() | NodeChanged() | NodeLeft() | NodeConflict():
                    self._follow(effect)
                case SidecarJoined(record) | SidecarChanged(record):
                    if isinstance(effect, SidecarJoined):
                        self._member_log.debug("sidecar_joined", other=record.sidecar)
                    if record.sidecar != self._sidecar:
                        self._hearing.tell(record.sidecar, record.deaf)
                        self._hearing.tell_covered(record.sidecar, record.covered)
                case SidecarLeft(record, reason):
                    self._member_log.debug("sidecar_gone", other=record.sidecar, reason=reason)
                    self._hearing.forget(record.sidecar)
        if effects:
            self.links_changed()
            self._fanout.flush()
        self._deadline_moved.set()

    def _follow(self, effect: NodeJoined | NodeChanged | NodeLeft | NodeConflict) -> None:
        """Open, update or close the link to a node."""
        match effect:
            case NodeJoined(record):
                self._member_log.info("member_joined", node=record.node, state=record.state.value)
                link = self._open(record)
                self._nodes.add(link)
                self._nursery.start_soon(link.run)
            case NodeChanged(record, before):
                if record.state is not before.state or record.incarnation > before.incarnation:
                    self._member_log.info(
                        "member_changed", node=record.node, state=record.state.value
                    )
                self._nodes[record.node].observe(record)
            case NodeLeft(record, reason):
                self._member_log.info("member_left", node=record.node, reason=reason)
                self._nodes.remove(record.node).leave()
            case NodeConflict(record, rival):
                self._conflicts += 1
                self._member_log.error(
                    "member_conflict",
                    node=record.node,
                    kept=str(record.endpoint),
                    ignored=str(rival.endpoint),
                )

    def _note_discovery(self) -> None:
        """Log when discovery becomes unreadable, and when it is readable again."""
        frozen = self._membership.frozen
        if frozen is self._frozen:
            return
        self._frozen = frozen
        if frozen:
            self._member_log.warning("discovery_frozen", nodes=len(self._nodes))
        else:
            self._member_log.info("discovery_back", nodes=len(self._nodes))

    # Input from the links.

    @property
    def sidecars(self) -> Mapping[SidecarId, SidecarRecord]:
        """The records of all live sidecars; a live view."""
        return self._membership.sidecars

    def links_changed(self) -> None:
        """Recompute, after a change of a link or a state, where to publish and who must confirm."""
        for name, node in self._nodes.items():
            # A node that another sidecar hears may get publishes: keep it and reconnect.
            delivers = (
                self._hearing.is_heard(name, node.record.incarnation)
                or node.subscribed is not None
                or node.usable
            )
            self._membership.alive(name, alive=delivers)
        self._deadline_moved.set()
        usable = {name: node for name, node in self._nodes.active.items() if node.usable}
        unheard = {name for name, node in usable.items() if node.unheard}
        incarnations = {name: node.record.incarnation for name, node in usable.items()}
        best = self._hearing.best(incarnations, unheard)
        self._fanout.use(
            {name: node for name, node in usable.items() if name in best},
            frozenset(name for name, node in self._nodes.carrying.items() if not node.unheard),
        )
        self._publish_unheard()
        self._reports_changed.set()

    def take_deaf(self, deaf: Deaf) -> None:
        """Record which nodes another sidecar cannot hear."""
        known = deaf.sidecar in self._membership.sidecars and deaf.sidecar != self._sidecar
        if known and self._hearing.tell(deaf.sidecar, deaf.nodes):
            self.links_changed()

    def note_stay(self, state: NodeState, after: NodeRecord | None, seconds: float) -> None:
        """Count the duration of a finished join or drain; `after` is None when the node left."""
        if state is NodeState.DRAINING:
            self._drains.add(seconds)
        elif state is NodeState.JOINING and after and after.state is NodeState.ACTIVE:
            self._joins.add(seconds)

    # Reports of this sidecar.

    def reports(self) -> dict[str, Any]:
        """Return this sidecar's reports about the nodes: fields of its record."""
        nodes = self._nodes
        return {
            "covered": {name: n.record.incarnation for name, n in nodes.items() if n.covered},
            "stopped": {name: n.record.incarnation for name, n in nodes.items() if n.stopped},
            "deaf": self._unheard(),
        }

    @property
    def unknown(self) -> dict[NodeId, int]:
        """The nodes that other sidecars hear and discovery does not list, with their incarnations.

        This happens when a node's agent died before this sidecar started.
        """
        unknown = self._hearing.unknown(self._nodes)
        if unknown:  # a node that left stays in sidecars' records until they notice
            for record in self._membership.absent:
                left = record.state is not NodeState.ACTIVE
                if left and unknown.get(record.node) == record.incarnation:
                    del unknown[record.node]
        return unknown

    def _unheard(self) -> dict[NodeId, int]:
        """Return the nodes that are not heard here, with their incarnations."""
        nodes = self._nodes
        unheard = {name: node.record.incarnation for name, node in nodes.items() if node.unheard}
        return unheard | self.unknown

    def _publish_unheard(self) -> None:
        """Publish the nodes that are not heard to the other sidecars, on the nodes that are."""
        unheard = self._unheard()
        if unheard == self._reported:
            return
        for name in self.unknown.keys() - self._reported.keys():
            self._member_log.warning("node_unknown", node=name, incarnation=unheard[name])
        self._reported = unheard
        message = encode_control(Deaf(self._sidecar, unheard))
        for node in self._nodes.values():
            if not node.unheard:
                node.control(pack(b"PUBLISH", CONTROL_CHANNEL, message))

    # Monitoring.

    def unready(self) -> str:
        """Return why this sidecar is not ready; empty when it is."""
        return self._nodes.unready(self._fanout.refusing())

    def facts(self) -> dict[str, Any]:
        """Return the facts behind the readiness, for people."""
        age = self._membership.read_age(trio.current_time())
        return {
            "nodes": self._nodes.facts(),
            "unknown": sorted(self.unknown),
            "fenced": sorted(self._fanout.refusing()),
            "discovery_readable": not self._membership.frozen,
            "discovery_age_seconds": None if age == inf else round(age, 3),
        }

    def statistics(self) -> FleetStatistics:
        """Return the present values and the totals since the start."""
        return FleetStatistics(
            nodes=tuple(node.statistics() for node in self._nodes.values()),
            joins=self._joins.statistics(),
            drains=self._drains.statistics(),
            conflicts=self._conflicts,
            sidecars=len(self._membership.sidecars),
            frozen=self._membership.frozen,
        )
