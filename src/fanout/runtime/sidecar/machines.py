"""The two machines of a sidecar, `Fleet` and `Fanout`, and the objects they share."""

import random

import attrs
import trio

from fanout.config import SidecarConfig
from fanout.notice import Notice
from fanout.runtime.net.transport import Network
from fanout.runtime.sidecar.fanout import Fanout
from fanout.runtime.sidecar.fleet import Fleet
from fanout.runtime.sidecar.gaps import Gaps
from fanout.runtime.sidecar.member_log import MemberLog
from fanout.runtime.sidecar.nodes import Nodes
from fanout.values.names import SidecarId


@attrs.frozen(eq=False, kw_only=True)
class Machines:
    """A sidecar's machines and the objects they share."""

    fleet: Fleet
    fanout: Fanout
    nodes: Nodes
    gaps: Gaps
    member_log: MemberLog
    reports_changed: Notice

    @classmethod
    def build(
        cls, config: SidecarConfig, network: Network, rng: random.Random, nursery: trio.Nursery
    ) -> "Machines":
        """Return new machines; the links to nodes run in the nursery."""
        nodes, gaps, member_log, reports_changed = Nodes(), Gaps(), MemberLog(), Notice()
        fanout = Fanout(
            SidecarId(config.id),
            nodes,
            publish_timeout_seconds=config.timings.publish_timeout_seconds,
            member_log=member_log,
            reports_changed=reports_changed,
        )
        fleet = Fleet(
            config,
            network,
            rng,
            nursery,
            nodes=nodes,
            fanout=fanout,
            member_log=member_log,
            reports_changed=reports_changed,
            on_gap=gaps.note,
        )
        return cls(
            fleet=fleet,
            fanout=fanout,
            nodes=nodes,
            gaps=gaps,
            member_log=member_log,
            reports_changed=reports_changed,
        )

    def start(self, nursery: trio.Nursery) -> None:
        """Start the deadline tasks of both machines in a nursery."""
        nursery.start_soon(self.fleet.keep_time)
        nursery.start_soon(self.fanout.keep_time)
