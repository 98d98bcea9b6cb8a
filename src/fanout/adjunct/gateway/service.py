"""The gateway in a sidecar: the service beside it is an instance, and the admin door hands out.

The instance lives as the sidecar does: joining until the sidecar is ready (and the service takes
connections, where that is checked), then active; draining for a while once the sidecar is told to
stop, then gone. An instance whose service is away begins a new life, joining.
"""

import ipaddress
from collections.abc import Sequence

import attrs
import structlog
import trio
from starlette.routing import BaseRoute

from fanout.adjunct.gateway.affinity import Affinity
from fanout.adjunct.gateway.instance import INSTANCES, InstanceRecord
from fanout.adjunct.gateway.pools import Pools
from fanout.adjunct.gateway.routes import gateway_routes
from fanout.config import SidecarConfig, gateway_host
from fanout.core.backoff import jittered
from fanout.runtime.adjuncts import Adjunct, Sidecar
from fanout.values import NodeState

log = structlog.get_logger()


class Gateway(Adjunct):
    """Registers the service beside a sidecar in a pool, if it is in one, and hands out users."""

    name = "gateway"
    kinds = (INSTANCES,)

    def __init__(self, config: SidecarConfig) -> None:
        self._config = config
        self._settings = config.gateway
        self._record: InstanceRecord | None = None

    def routes(self, sidecar: Sidecar) -> Sequence[BaseRoute]:
        """Answer /gateway and /gateway/POOL."""
        settings = self._settings
        secret = settings.gateway_secret or self._config.secret
        pools = Pools(
            sidecar.watch,
            affinity=Affinity(secret, self._config.cluster, settings.gateway_affinity_seconds)
            if secret
            else None,
            rng=sidecar.world.rng,
            wall_seconds=lambda: sidecar.world.wall_milliseconds() / 1000,
        )
        return gateway_routes(
            pools,
            lifetime_seconds=settings.gateway_affinity_seconds,
            retry_seconds=self._config.timings.poll_interval_seconds,
        )

    async def run(self, sidecar: Sidecar) -> None:
        """Tell discovery of the instance at every heartbeat, and at once when it may be used."""
        if not self._settings.gateway_pool:
            return
        if self._record is None:
            self._record = self._first(sidecar.world.wall_milliseconds())
        while True:
            is_ready = sidecar.ready.is_set() and await self._answers(sidecar)
            await self._tell(sidecar, NodeState.ACTIVE if is_ready else NodeState.JOINING)
            seconds = jittered(self._config.timings.heartbeat_interval_seconds, sidecar.world.rng)
            with trio.move_on_after(seconds):
                if sidecar.ready.is_set():
                    await trio.sleep_forever()
                await sidecar.ready.wait()

    async def drain(self, sidecar: Sidecar) -> None:
        """Send new users elsewhere, and go on for those who are here."""
        if self._record is not None and self._record.state is NodeState.ACTIVE:
            await self._tell(sidecar, NodeState.DRAINING)
            await trio.sleep(self._settings.gateway_drain_seconds)

    async def say_goodbye(self, sidecar: Sidecar) -> None:
        """Leave the pool."""
        if self._record is not None:
            await self._tell(sidecar, NodeState.GONE)

    def _first(self, incarnation: int) -> InstanceRecord:
        settings = self._settings
        return InstanceRecord(
            cluster=self._config.cluster,
            pool=settings.gateway_pool,
            instance=self._config.id,
            incarnation=incarnation,
            version=0,
            state=NodeState.JOINING,
            address=settings.gateway_address,
            ips=settings.gateway_ip or _ips_of(settings.gateway_address),
            weight=settings.gateway_weight,
            lease_seconds=self._config.timings.lease_seconds,
        )

    async def _tell(self, sidecar: Sidecar, state: NodeState) -> None:
        """Write the record, unless what is to be told comes too late."""
        before = self._record
        assert before is not None  # noqa: S101 - `run` makes it first
        if before.state is NodeState.GONE:
            return
        if before.state is NodeState.DRAINING and state is not NodeState.GONE:
            state = NodeState.DRAINING  # a heartbeat
        record = attrs.evolve(before, version=before.version + 1, state=state)
        if before.state is NodeState.ACTIVE and state is NodeState.JOINING:
            record = attrs.evolve(record, incarnation=before.incarnation + 1)
        self._record = record
        is_news = before.version == 0 or state is not before.state
        if is_news:
            log.info("instance_changed", pool=record.pool, state=state.value)
        await sidecar.registry.write(record, news=is_news)

    async def _answers(self, sidecar: Sidecar) -> bool:
        """Whether the service takes a connection, where that is to be checked."""
        endpoint = self._settings.gateway_check
        if endpoint is None:
            return True
        try:
            with trio.fail_after(self._config.timings.connect_timeout_seconds):
                transport = await sidecar.world.network.connect(endpoint)
        except (OSError, trio.TooSlowError):
            return False
        transport.close()
        return True


def _ips_of(address: str) -> tuple[str, ...]:
    """Return the host of an address if it is an IP address."""
    try:
        return (str(ipaddress.ip_address(gateway_host(address))),)
    except ValueError:
        return ()
