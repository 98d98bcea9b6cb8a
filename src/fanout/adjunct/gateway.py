"""The gateway: assigns users to the instances of a pool, with sticky sessions.

- An instance is joining until its sidecar is ready, then active; it is draining while its sidecar
  shuts down, then gone.
- New users go to the active instances by weighted round robin; each sidecar counts independently.
- A returning user goes to the instance named by the token, if that is active. Tokens are signed, so
  that users cannot choose an instance. They do not expire, and they are not a login.
- A draining instance gets no users. A user who asks is about to connect, and would have to move
  again within seconds; connected users stay until the instance leaves.
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

COOKIE_SECONDS = 30 * 24 * 3600  # since the last response; then the browser discards the token


@attrs.frozen(slots=True, kw_only=True)
class InstanceRecord(LeasedRecord):
    """Record of an instance. A new incarnation begins whenever it enters the state joining."""

    pool: str
    instance: str  # the sidecar's id
    state: NodeState
    address: str  # for users; see `fanout.config.gateway_address`
    ips: tuple[str, ...] = ()  # for DNS
    weight: int = 1

    @property
    def id(self) -> str:
        """The unique name: POOL/INSTANCE; names contain no slash."""
        return f"{self.pool}/{self.instance}"

    @property
    def gone(self) -> bool:
        """Whether the instance has left."""
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
    """No instance can be assigned; `code` is NOPOOL or NOINSTANCE."""


@attrs.frozen
class Pick:
    """An instance assigned to a user."""

    pool: str
    instance: str
    address: str
    token: str | None  # for the next request; None without a secret
    returning: bool  # whether the token chose the instance


@attrs.frozen(eq=False)
class Pools:
    """Assigns users to the instances in discovery."""

    watch: Watch  # over `INSTANCES`; from a sidecar or `fanout.runtime.discovery.watch.open_watch`
    cluster: str
    secret: str = attrs.field(repr=False)  # signs the tokens, same everywhere; empty: no tokens
    rng: Random  # where the round robin starts
    _turns: dict[str, RoundRobin] = attrs.field(factory=dict, init=False)

    def pick(self, pool: str, token: str | None = None) -> Pick:
        """Return an instance for a user, who may have a token from an earlier call.

        Raises GatewayError: NOPOOL if the pool has and had no instance in the last ten minutes,
        NOINSTANCE if none is active, or discovery was not read yet.
        """
        here = [each for each in self.watch.members(INSTANCES).values() if each.pool == pool]
        active = {each.instance: each for each in here if each.state is NodeState.ACTIVE}
        if not active:
            late = (each.pool for each in self.watch.absent(INSTANCES))
            if self.watch.ever_read and not here and pool not in late:
                raise GatewayError("NOPOOL", f"no pool {pool[:64]!r}")
            raise GatewayError("NOINSTANCE", f"no active instance in pool {pool[:64]!r}")
        known, signer = "", None
        if self.secret:
            signer = Signer(self.secret, f"gateway/{self.cluster}/{pool}", digest_method=sha256)
            with suppress(BadSignature, UnicodeError):  # invalid token
                known = signer.unsign(token or "").decode()
        if len(self._turns) > MEMBERS_MAX:  # most are pools that no longer exist
            self._turns.clear()
        turns = self._turns.setdefault(pool, RoundRobin(self.rng))
        weights = {name: each.weight for name, each in active.items()}
        name = known if known in active else turns.next(weights)
        given = signer.sign(name).decode() if signer else None
        return Pick(pool, name, active[name].address, given, name == known)


class Gateway(Adjunct):
    """Serves /gateway at a sidecar's admin door, and registers the service beside it."""

    name = "gateway"
    kinds = (INSTANCES,)
    _state: NodeState | None = None
    _incarnation = _version = 0

    def routes(self, sidecar: Sidecar) -> tuple[Route, ...]:
        """Return the route /gateway/POOL: an instance as JSON, or a redirect for browsers."""
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
        """Write the instance to discovery at every heartbeat, and at once when it gets ready."""
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
        """Stop getting users, and keep serving connected ones for the drain time."""
        if self._state is NodeState.ACTIVE:
            await self._tell(sidecar, NodeState.DRAINING)
            await trio.sleep(sidecar.config.gateway.gateway_drain_seconds)

    async def say_goodbye(self, sidecar: Sidecar) -> None:
        """Leave the pool."""
        if self._state is not None:
            await self._tell(sidecar, NodeState.GONE)

    async def _takes_connections(self, sidecar: Sidecar) -> bool:
        """Return whether the service accepts a connection; always, without a check."""
        endpoint, config = sidecar.config.gateway.gateway_check, sidecar.config
        with trio.move_on_after(config.timings.connect_timeout_seconds), suppress(OSError):
            if endpoint is not None:
                (await sidecar.world.network.connect(endpoint)).close()
            return True
        return False

    async def _tell(self, sidecar: Sidecar, state: NodeState) -> None:
        """Write the record; a late heartbeat cannot undo draining or gone."""
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
