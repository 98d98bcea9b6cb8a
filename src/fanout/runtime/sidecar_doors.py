"""The three doors (listeners) of a sidecar: RESP, websocket and admin."""

import ssl
from collections.abc import Mapping

import attrs

from fanout.runtime.admin.live_snapshot import Shown
from fanout.runtime.admin.sidecar_admin import SidecarAdmin
from fanout.runtime.doors.door import DoorContext
from fanout.runtime.doors.resp_listener import serve_resp
from fanout.runtime.doors.ws_listener import WsListener
from fanout.runtime.net.http import Readiness
from fanout.runtime.net.transport import Listener
from fanout.runtime.process.loop_watch import LoopWatch
from fanout.runtime.process.signals import Stop
from fanout.runtime.sidecar.adjuncts import Sidecar
from fanout.runtime.sidecar.authenticator import Authenticator
from fanout.runtime.sidecar.machines import Machines
from fanout.values.names import SidecarId
from fanout.wire.limits import ClientLimits
from fanout.wire.ws.origins import OriginPolicy


@attrs.frozen(eq=False, kw_only=True)
class SidecarDoors:
    """The three doors of a sidecar, whose addresses are bound."""

    _machines: Machines
    _context: Sidecar
    _stop: Stop
    _authenticator: Authenticator
    _tls: ssl.SSLContext | None
    _resp: Listener
    _ws: Listener
    _client_limits: ClientLimits

    def admin(self) -> SidecarAdmin:
        """Return the admin door."""
        machines, loop = self._machines, LoopWatch()
        shown = Shown(
            config=self._context.config,
            fleet=machines.fleet,
            fanout=machines.fanout,
            nodes=machines.nodes,
            member_log=machines.member_log,
            has_users=self._authenticator.has_users,
            discovery=self._context.registry.statistics,
            doors={"resp": self._resp.endpoint, "ws": self._ws.endpoint},
            tls=self._tls is not None,
            unready=self._unready,
            loop_lag_seconds=lambda: loop.last_seconds,
            wall_milliseconds=self._context.world.wall_milliseconds,
        )
        return SidecarAdmin(
            shown=shown, context=self._context, readiness=self._readiness, loop=loop
        )

    def websocket(self, admin: str) -> WsListener:
        """Return the websocket door; it accepts the live page of the admin door at URL `admin`."""
        config = self._context.config
        policy = OriginPolicy.with_page(self._ws.endpoint, config.origin, config.host, admin)
        return WsListener(self._door("ws"), self._ws, policy, self._machines.gaps)

    async def serve_resp(self) -> None:
        """Serve the RESP door until cancelled."""
        wall = self._context.world.wall_milliseconds
        await serve_resp(self._door("resp"), self._resp, wall, self._facts)

    def ready_line(self, admin: str) -> str:
        """Return the line to print when the doors are open; `admin` is the admin door's URL."""
        secure = "s" if self._tls is not None else ""
        return (
            f"ready resp={self._resp.endpoint} ws=ws{secure}://{self._ws.endpoint}/ "
            f"admin={admin} nodes={len(self._machines.nodes.active)}"
        )

    def _door(self, name: str) -> DoorContext:
        return DoorContext(
            fanout=self._machines.fanout,
            clients=self._machines.fanout.clients[name],
            authenticator=self._authenticator,
            limits=self._context.config.limits,
            client_limits=self._client_limits,
            sidecar=SidecarId(self._context.config.id),
            rng=self._context.world.rng,
        )

    def _unready(self) -> str:
        if self._stop.requested.is_set():
            return "shutting down"
        unready = self._machines.fleet.unready()
        return unready or ("" if self._context.ready.is_set() else "doors not open yet")

    def _readiness(self) -> Readiness:
        return Readiness(self._unready(), self._machines.fleet.facts())

    def _facts(self) -> Mapping[str, object]:
        """Return the sidecar's own section of INFO."""
        nodes, active = self._machines.nodes, self._machines.nodes.active
        return {
            "sidecar": self._context.config.id,
            "cluster": self._context.config.cluster,
            "nodes_known": len(nodes),
            "nodes_active": len(active),
            "nodes_covered": sum(node.covered for node in active.values()),
            "sidecars": len(self._machines.fleet.sidecars),
            "ready": int(not self._machines.fleet.unready()),
        }
