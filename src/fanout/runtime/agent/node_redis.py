"""The connection of an agent to its node's Redis: start, set-up, reconnects and probes."""

from collections.abc import Callable
from contextlib import suppress

import attrs
import structlog
import trio

from fanout.config import NodeConfig, RedisAddress
from fanout.core import users
from fanout.core.agent import Redis
from fanout.core.backoff import Backoff
from fanout.errors import CommandFailed, LinkLost
from fanout.notice import Notice
from fanout.runtime.net.world import World
from fanout.runtime.redis.identity import is_primary
from fanout.runtime.redis.link import Link, use_link
from fanout.runtime.redis.login import node_address
from fanout.runtime.redis.redis_server import spawn_redis
from fanout.values.names import IDENTITY_KEY, PRESENCE_CHANNEL, RESERVED_PREFIX, NodeId
from fanout.values.records import FenceMode, Identity, NodeRecord
from fanout.wire.records import encode_record
from fanout.wire.redis.client import numsub

log = structlog.get_logger()


@attrs.frozen(kw_only=True)
class RedisStatistics:
    """The connection of an agent to its node's Redis."""

    cooperative: str  # why the agent cannot fence the node; empty when it can
    link_failures: int  # connections lost, and failed attempts
    probes: int
    probe_failures: int
    probe_seconds: float  # round trip of the last one; 0 before the first


class NodeRedis:
    """The node's Redis.

    Args:
        config: the configuration of the agent.
        world: the network and the random numbers.
        on_up: called after each successful probe.
        on_down: called when the connection or the Redis is lost.

    """

    def __init__(
        self,
        config: NodeConfig,
        world: World,
        *,
        on_up: Callable[[Redis], None],
        on_down: Callable[[], None],
    ) -> None:
        self._config = config
        self._timings = config.timings
        self._world = world
        self._rng = world.rng
        self._on_up = on_up
        self._on_down = on_down
        self._link: Link | None = None
        self._identified: tuple[Link | None, bytes] = (None, b"")
        self._cooperative_because = ""
        self._probe_channel = RESERVED_PREFIX + b"probe:node:" + config.id.encode()
        self._probe_back = Notice()
        self._link_failures = self._probes = self._probe_failures = 0
        self._probe_seconds = 0.0

    def statistics(self) -> RedisStatistics:
        """Return connection statistics."""
        return RedisStatistics(
            cooperative=self._cooperative_because,
            link_failures=self._link_failures,
            probes=self._probes,
            probe_failures=self._probe_failures,
            probe_seconds=self._probe_seconds,
        )

    async def run(self) -> None:
        """Keep a link to the node's Redis, until cancelled; start the Redis first with `spawn`.

        Raises:
            ConfigError: the Redis cannot be started.

        """
        if self._config.spawn is None:
            assert self._config.redis is not None  # noqa: S101 - ensured by the config
            # Pub/sub ignores databases, and sidecars read the identity in database 0.
            await self._keep_link(attrs.evolve(self._config.redis, database=0))
            return
        endpoint = self._config.spawn
        login = f"{self._rng.getrandbits(256):064x}"
        while True:
            own = {users.AGENT_USER: users.agent_rules(login)}
            async with spawn_redis(endpoint, own) as server:
                endpoint = server.endpoint  # keep the port after a restart
                log.info("redis_started", redis=str(endpoint), pid=server.pid)
                async with trio.open_nursery() as nursery:
                    address = RedisAddress(endpoint, users.AGENT_USER, login)
                    nursery.start_soon(self._keep_link, address)
                    await server.wait_exit()
                    nursery.cancel_scope.cancel()
            self._on_down()
            log.error("redis_died", redis=str(endpoint))

    async def call(self, *arguments: str | bytes) -> object:
        """Run one command on the node, with a timeout; return its reply.

        Raises LinkLost, CommandFailed.
        """
        link = self._link
        if link is None:
            raise LinkLost("no connection to the node's Redis")
        with trio.move_on_after(self._timings.connect_timeout_seconds):
            return await link.call(*arguments)
        raise LinkLost("no answer from the node's Redis")

    async def set_gate(self, *, is_open: bool) -> None:
        """Open or close the publish gate: the ACL rule of the data user. Raises as `call`."""
        login = self._password(NodeId(self._config.id), users.DATA_USER)
        rules = users.data_rules(login, is_open=is_open)
        await self.call("ACL", "SETUSER", users.DATA_USER, *rules)

    async def set_identity(self, identity: Identity) -> None:
        """Write the identity key; from now on its loss closes the link. Raises as `call`."""
        raw = encode_record(identity)
        link = self._link
        await self.call("SET", IDENTITY_KEY, raw)
        self._identified = (link, raw)

    async def count(self) -> int | None:
        """Return how many sidecars are subscribed on this node; None on failure."""
        with suppress(LinkLost, CommandFailed):
            return numsub(await self.call("PUBSUB", "NUMSUB", PRESENCE_CHANNEL)) or 0
        return None

    async def count_on(self, record: NodeRecord) -> int:
        """Return how many sidecars are subscribed on another node; 0 on failure."""
        found = 0

        async def ask(link: Link) -> None:
            nonlocal found
            found = numsub(await link.call("PUBSUB", "NUMSUB", PRESENCE_CHANNEL)) or 0

        address = node_address(self._config, record, users.CTL_USER)
        limit = self._timings.connect_timeout_seconds
        with trio.move_on_after(limit), suppress(LinkLost, CommandFailed):
            await use_link(self._world.node_network, address, ask, timeout_seconds=limit)
        return found

    def lose(self, reason: str) -> None:
        """Close the link; the reconnect repeats the set-up."""
        if self._link is not None:
            self._link.close(reason)

    async def _keep_link(self, address: RedisAddress) -> None:
        backoff = Backoff(
            first_seconds=self._timings.reconnect_first_seconds,
            max_seconds=self._timings.reconnect_max_seconds,
        )
        attempt = 0

        async def session(link: Link) -> None:
            await self._use(link, address)

        while True:
            began = trio.current_time()
            try:
                await use_link(
                    self._world.network,
                    address,
                    session,
                    timeout_seconds=self._timings.connect_timeout_seconds,
                )
            except (LinkLost, CommandFailed) as error:
                self._link_failures += 1
                log.warning("redis_lost", redis=str(address), reason=str(error))
            finally:
                self._link = None
                self._on_down()
            attempt = 0 if trio.current_time() - began > backoff.max_seconds else attempt + 1
            await trio.sleep(backoff.delay_seconds(attempt, self._rng))

    async def _use(self, link: Link, address: RedisAddress) -> None:
        """Set the node up, then probe it at every interval; raise LinkLost when a probe fails."""
        link.on_pushes = self._on_pushes
        with trio.move_on_after(self._timings.connect_timeout_seconds) as scope:
            info = _info(await link.call("INFO", "server"))
            fence = await self._set_up_users(link, address, info)
        if scope.cancelled_caught:
            raise LinkLost("no answer from the node's Redis")
        link.submit_subscription(b"SUBSCRIBE", (self._probe_channel,))
        endpoint = self._config.advertise or address.endpoint
        redis = Redis(info["run_id"], endpoint, fence, address.tls)
        while True:
            await self._probe(link)
            self._link = link
            self._on_up(redis)
            await trio.sleep(self._timings.probe_interval_seconds)
            await self._check_identity(link)

    async def _check_identity(self, link: Link) -> None:
        """Check the identity key, and restore it where it was flushed or evicted.

        Raises:
            LinkLost: it is another one, or this Redis has become a replica.
            CommandFailed: Redis refuses to store it.

        """
        on, raw = self._identified
        with trio.move_on_after(self._timings.probe_timeout_seconds) as scope:
            found = await link.call("GET", IDENTITY_KEY)
        if scope.cancelled_caught:
            self._probe_failures += 1
            raise LinkLost("no answer from the node's Redis")
        if on is not link or found == raw:
            return
        if found is not None:
            raise LinkLost("the identity key was replaced: was this Redis made a replica?")
        # Sidecars ask twice before they disconnect, see `NodeLink`.
        if not await is_primary(link, self._timings.probe_timeout_seconds):
            raise LinkLost("the identity key is gone: this Redis was made a replica")
        await self.call("SET", IDENTITY_KEY, raw)
        log.warning("identity_restored", reason="the key was flushed or evicted")

    async def _set_up_users(
        self, link: Link, address: RedisAddress, info: dict[str, str]
    ) -> FenceMode:
        """Create the user for subscriptions and control; return the fence mode that works here.

        `set_gate` creates the user for publishes.
        """
        reason = ""
        login = self._password(NodeId(self._config.id), users.CTL_USER)
        if not login and self._config.spawn is None and address.password:
            reason = "the Redis requires a password, so its users need one: set FANOUT_SECRET"
        else:
            major = int(info["redis_version"].split(".")[0])
            rules = users.ctl_rules(login, redis_version=major)
            try:
                await link.call("ACL", "SETUSER", users.CTL_USER, *rules)
            except CommandFailed as error:
                reason = str(error)
        if reason and reason != self._cooperative_because:
            log.warning("fence_cooperative", redis=str(address), reason=reason)
        self._cooperative_because = reason
        return FenceMode.COOPERATIVE if reason else FenceMode.ACL

    def _password(self, node: NodeId, user: str) -> str:
        return users.password(self._config.secret, self._config.cluster, node, user)

    async def _probe(self, link: Link) -> None:
        sent = self._probe_back.count
        self._probes += 1
        began = trio.current_time()
        with trio.move_on_after(self._timings.probe_timeout_seconds) as scope:
            await link.call("PUBLISH", self._probe_channel, b"")
            await self._probe_back.wait(sent)
        if scope.cancelled_caught:
            self._probe_failures += 1
            raise LinkLost("probe timeout: a message published on the node did not arrive")
        self._probe_seconds = trio.current_time() - began

    def _on_pushes(self, pushes: list[list[object]]) -> None:
        if any(push[0] == b"message" for push in pushes):
            self._probe_back.set()


def _info(raw: bytes) -> dict[str, str]:
    """Return the fields of INFO. Raises LinkLost when a required one is missing."""
    lines = raw.decode(errors="replace").splitlines()
    found = dict(line.split(":", 1) for line in lines if ":" in line)
    if "run_id" not in found or not found.get("redis_version", "")[:1].isdigit():
        raise LinkLost("INFO lacks run_id or redis_version: not a Redis?")
    return found
