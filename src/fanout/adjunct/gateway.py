"""The gateway: users are handed out to the instances of a pool, and come back to the same one.

- An instance joins until its sidecar is ready, is active, drains when that is to stop, and is gone.
- New users go round robin over the active ones, by weight; each who hands out counts by itself.
- A returning user, one with a token, goes to the instance it names while that is active. Tokens
  are signed, so that nobody chooses an instance; they do not end, and are no login.
- A draining instance gets nobody. Whoever asks is about to connect, and would have to move again
  within seconds; those who are connected have not asked, and stay until it leaves.
"""

from contextlib import suppress
from hashlib import sha256
from random import Random

import attrs
import structlog
import trio
from itsdangerous import BadSignature, Signer
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from fanout.config import gateway_address, gateway_ips, gateway_weight
from fanout.core.backoff import jittered
from fanout.core.round_robin import RoundRobin
from fanout.errors import CodedError
from fanout.runtime.discovery.watch import MEMBERS_MAX, Watch
from fanout.runtime.sidecar.adjuncts import Adjunct, Sidecar
from fanout.values.records import LeasedRecord, NodeState
from fanout.wire.records import NODE_BYTES_MAX, RecordKind, decode_fields, read_name

log = structlog.get_logger()

COOKIE_SECONDS = 30 * 24 * 3600  # since the last answer; a browser forgets the token then


@attrs.frozen(slots=True, kw_only=True)
class InstanceRecord(LeasedRecord):
    """What an instance tells discovery; its life ends also when its service takes no connections."""

    pool: str
    instance: str  # the sidecar's id
    state: NodeState
    address: str  # where users reach it; see `fanout.config.gateway_address`
    ips: tuple[str, ...] = ()  # for DNS
    weight: int = 1

    @property
    def id(self) -> str:
        """Its name among the instances of all pools: no name holds a slash."""
        return f"{self.pool}/{self.instance}"

    @property
    def gone(self) -> bool:
        """Whether it says goodbye."""
        return self.state is NodeState.GONE


_READERS = {
    "pool": read_name,
    "instance": read_name,
    "address": gateway_address,
    "ips": gateway_ips,
    "weight": gateway_weight,
}
INSTANCES = RecordKind(
    "instance",
    InstanceRecord,
    lambda raw: decode_fields(InstanceRecord, raw, NODE_BYTES_MAX, _READERS),
)


class GatewayError(CodedError):
    """A user cannot be handed out; `code` is NOPOOL or NOINSTANCE."""


@attrs.frozen
class Pick:
    """What a user is told."""

    pool: str
    instance: str
    address: str
    token: str | None  # to come back with; None where no secret is set
    returning: bool  # whether it was the token that decided


@attrs.frozen(eq=False)
class Pools:
    """Hands out users by what discovery tells."""

    watch: Watch  # over `INSTANCES`; from a sidecar or `fanout.runtime.discovery.watch.open_watch`
    cluster: str
    secret: str = attrs.field(repr=False)  # signs the tokens, alike everywhere; empty: no tokens
    rng: Random  # for who is first
    _turns: dict[str, RoundRobin] = attrs.field(factory=dict, init=False)

    def pick(self, pool: str, token: str | None = None) -> Pick:
        """Choose an instance for a user, who may have a token from the last time.

        Raises GatewayError: NOPOOL when no instance is there or was in the last ten minutes,
        NOINSTANCE when none is active, or discovery was not read yet.
        """
        here = [each for each in self.watch.members(INSTANCES).values() if each.pool == pool]
        active = {each.instance: each for each in here if each.state is NodeState.ACTIVE}
        if not active:
            late = (each.pool for each in self.watch.absent(INSTANCES))
            if self.watch.ever_read and not here and pool not in late:
                raise GatewayError("NOPOOL", f"there is no pool {pool[:64]!r} here")
            raise GatewayError("NOINSTANCE", f"no instance of pool {pool[:64]!r} is active now")
        known, signer = "", None
        if self.secret:
            signer = Signer(self.secret, f"gateway/{self.cluster}/{pool}", digest_method=sha256)
            with suppress(BadSignature, UnicodeError):  # of somebody else's making
                known = signer.unsign(token or "").decode()
        if len(self._turns) > MEMBERS_MAX:  # of pools that were; no more than that can be now
            self._turns.clear()
        turns = self._turns.setdefault(pool, RoundRobin(self.rng))
        weights = {name: each.weight for name, each in active.items()}
        name = known if known in active else turns.next(weights)
        given = signer.sign(name).decode() if signer else None
        return Pick(pool, name, active[name].address, given, name == known)


class Gateway(Adjunct):
    """Hands out users at a sidecar's admin door, and has the service beside it join its pool."""

    name = "gateway"
    kinds = (INSTANCES,)
    _state: NodeState | None = None
    _incarnation = _version = 0

    def routes(self, sidecar: Sidecar) -> tuple[Route, ...]:
        """Answer /gateway/POOL with an instance, or send a browser there."""
        config = sidecar.config
        secret = config.gateway.gateway_secret or config.secret
        pools = Pools(sidecar.watch, config.cluster, secret, sidecar.world.rng)
        headers = {"cache-control": "no-store"}
        retry = {**headers, "retry-after": f"{int(config.timings.poll_interval_seconds) + 1}"}

        async def pick(request: Request) -> Response:
            pool = request.path_params["pool"]
            cookie = f"fanout_gateway_{pool}"
            token = request.query_params.get("token") or request.cookies.get(cookie)
            try:
                picked = pools.pick(pool, token)
            except GatewayError as error:
                told = {"code": error.code, "error": str(error)}
                return JSONResponse(told, 404 if error.code == "NOPOOL" else 503, retry)
            answer: Response = JSONResponse(attrs.asdict(picked), headers=headers)
            is_page = "text/html" in request.headers.get("accept", "")
            is_site = picked.address.lower().startswith(("http://", "https://"))
            if is_site and (is_page or "redirect" in request.query_params):
                answer = RedirectResponse(picked.address, 307, headers)
            if picked.token:
                secure = request.url.scheme == "https"
                answer.set_cookie(
                    cookie, picked.token, max_age=COOKIE_SECONDS, secure=secure, httponly=True
                )
            return answer

        return (Route("/gateway/{pool}", pick),)

    async def run(self, sidecar: Sidecar) -> None:
        """Tell discovery of the instance at every heartbeat, and at once when it may be used."""
        if not sidecar.config.gateway.gateway_pool:
            return
        while True:
            was_ready = sidecar.ready.is_set()
            is_up = was_ready and await self._takes_connections(sidecar)
            await self._tell(sidecar, NodeState.ACTIVE if is_up else NodeState.JOINING)
            seconds = sidecar.config.timings.heartbeat_interval_seconds
            with trio.move_on_after(jittered(seconds, sidecar.world.rng)):
                await (trio.sleep_forever if was_ready else sidecar.ready.wait)()

    async def drain(self, sidecar: Sidecar) -> None:
        """Send new users elsewhere, and go on for those who are here."""
        if self._state is NodeState.ACTIVE:
            await self._tell(sidecar, NodeState.DRAINING)
            await trio.sleep(sidecar.config.gateway.gateway_drain_seconds)

    async def say_goodbye(self, sidecar: Sidecar) -> None:
        """Leave the pool."""
        if self._state is not None:
            await self._tell(sidecar, NodeState.GONE)

    async def _takes_connections(self, sidecar: Sidecar) -> bool:
        """Whether the service takes a connection, where that is checked."""
        endpoint, config = sidecar.config.gateway.gateway_check, sidecar.config
        with trio.move_on_after(config.timings.connect_timeout_seconds), suppress(OSError):
            if endpoint is not None:
                (await sidecar.world.network.connect(endpoint)).close()
            return True
        return False

    async def _tell(self, sidecar: Sidecar, state: NodeState) -> None:
        """Write the record; a heartbeat that comes too late brings back nobody who is leaving."""
        if self._state in (NodeState.DRAINING, NodeState.GONE) and state is not NodeState.GONE:
            state = self._state
        config, settings = sidecar.config, sidecar.config.gateway
        is_news = state is not self._state
        if is_news:
            log.info("instance_changed", pool=settings.gateway_pool, state=state.value)
        if is_news and state is NodeState.JOINING:
            self._incarnation = max(self._incarnation + 1, sidecar.world.wall_milliseconds())
        self._state = state
        self._version += 1
        record = InstanceRecord(
            cluster=config.cluster,
            pool=settings.gateway_pool,
            instance=config.id,
            incarnation=self._incarnation,
            version=self._version,
            state=state,
            address=settings.gateway_address,
            ips=settings.ips,
            weight=settings.gateway_weight,
            lease_seconds=config.timings.lease_seconds,
        )
        await sidecar.registry.write(record, news=is_news)
