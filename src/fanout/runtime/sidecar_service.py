"""The sidecar service: the order of its start and of its shutdown."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import chain

import structlog
import trio

from fanout.config import SidecarConfig, TlsFiles
from fanout.errors import ConfigError
from fanout.runtime.discovery.registry import Registry
from fanout.runtime.discovery.watch import Watch
from fanout.runtime.doors.ws_listener import WsListener
from fanout.runtime.net.certificates import Contexts
from fanout.runtime.net.tls import TlsListener
from fanout.runtime.net.transport import Listener, Network
from fanout.runtime.net.world import World, real_world
from fanout.runtime.process.console import announce_ready
from fanout.runtime.process.signals import Stop, open_signal_stop
from fanout.runtime.sidecar.adjuncts import Adjunct, Sidecar, keep_running, survive
from fanout.runtime.sidecar.authenticator import Authenticator
from fanout.runtime.sidecar.fleet import Fleet
from fanout.runtime.sidecar.machines import Machines
from fanout.runtime.sidecar.presence import Presence
from fanout.runtime.sidecar.recipient import client_limits
from fanout.runtime.sidecar_doors import SidecarDoors
from fanout.values.names import Endpoint
from fanout.values.records import NodeState

log = structlog.get_logger()

READY_POLL_SECONDS = 0.05
"""How often a starting sidecar checks whether it covers every active node."""

FAREWELL_SECONDS = 2.0
"""How long a sidecar that shuts down may take to remove its records and its adjuncts' ones."""


async def run_sidecar(
    config: SidecarConfig,
    *,
    world: World | None = None,
    stop: Stop | None = None,
    announce: Callable[[str], None] = announce_ready,
    nodes_min: int = 1,
    adjuncts: Sequence[Adjunct] = (),
) -> int:
    """Run a sidecar until it is stopped; return the exit code.

    It is ready once it covers every active node, and at least `nodes_min` of them. `adjuncts`
    run next to the fan-out and cannot harm it, see `fanout.runtime.sidecar.adjuncts`.
    Without `stop`, the first SIGTERM or SIGINT shuts down gracefully, the second at once.

    Raises:
        ConfigError: an address cannot be bound, or the users file is invalid.

    """
    if stop is None:
        async with open_signal_stop() as signals:
            return await run_sidecar(
                config,
                world=world,
                stop=signals,
                announce=announce,
                nodes_min=nodes_min,
                adjuncts=adjuncts,
            )
    with structlog.contextvars.bound_contextvars(cluster=config.cluster, sidecar=config.id):
        contexts = Contexts(TlsFiles.of(config))
        return await _run(
            config,
            world or real_world(contexts, config.node_network),
            contexts,
            stop=stop,
            announce=announce,
            nodes_min=nodes_min,
            adjuncts=adjuncts,
        )


async def _run(
    config: SidecarConfig,
    world: World,
    contexts: Contexts,
    *,
    stop: Stop,
    announce: Callable[[str], None],
    nodes_min: int,
    adjuncts: Sequence[Adjunct],
) -> int:
    authenticator = Authenticator(config.users)
    async with (
        _open_listener(world.network, config.resp, "resp", contexts.server) as resp,
        _open_listener(world.network, config.ws, "ws", contexts.server) as ws,
        trio.open_nursery() as nursery,
    ):
        machines = Machines.build(config, world.node_network, world.rng, nursery)
        context = _lend(config, world, machines.fleet, adjuncts)
        opened = SidecarDoors(
            machines=machines,
            context=context,
            stop=stop,
            authenticator=authenticator,
            tls=contexts.server,
            resp=resp,
            ws=ws,
            client_limits=client_limits(config.limits),
        )
        admin_door = opened.admin()
        services = (*adjuncts, admin_door.feed())
        presence = Presence(
            config,
            context.registry,
            reports=machines.fleet.reports,
            reports_changed=machines.reports_changed,
            incarnation=world.wall_milliseconds(),
            rng=world.rng,
        )
        nursery.start_soon(_stop_at_once, stop, nursery.cancel_scope)
        nursery.start_soon(_reload_on, stop, authenticator, contexts)
        admin_url = await admin_door.start(nursery, services, contexts.server)
        world.allow_clients(2 * config.limits.clients_max)  # at each of the two client doors
        nursery.start_soon(context.registry.run)
        machines.start(nursery)
        nursery.start_soon(presence.run)
        nursery.start_soon(context.watch.run)
        for adjunct in services:
            nursery.start_soon(keep_running, adjunct, context)
        websocket = opened.websocket(admin_url)
        async with trio.open_nursery() as doors:
            drain = partial(_each, services, "drain", context)
            doors.start_soon(_leave_on, stop, doors.cancel_scope, drain, (resp, ws), websocket)
            await presence.introduce()
            await _until_ready(machines, nodes_min)
            await trio.lowlevel.checkpoint_if_cancelled()  # listeners are closed then
            for listener in (resp, ws):
                listener.listen()
            doors.start_soon(opened.serve_resp)
            doors.start_soon(websocket.serve)
            announce(opened.ready_line(admin_url))
            log.info("sidecar_ready", nodes=len(machines.nodes.active))
            context.ready.set()
        with trio.move_on_after(FAREWELL_SECONDS):
            async with trio.open_nursery() as farewell:
                farewell.start_soon(presence.say_goodbye)
                farewell.start_soon(_each, services, "say_goodbye", context)
        nursery.cancel_scope.cancel()
    log.info("sidecar_left")
    return 1 if stop.now.is_set() else 0


@asynccontextmanager
async def _open_listener(
    network: Network, endpoint: Endpoint, option: str, tls: ssl.SSLContext | None
) -> AsyncIterator[Listener]:
    """Bind an address while the block runs; always close it: a Unix socket leaves a file."""
    try:
        listener = await network.bind(endpoint)
    except OSError as error:
        raise ConfigError(
            f"--{option}: cannot listen on {endpoint}: {error.strerror or error}; "
            "choose a free address, or port 0 for any free port"
        ) from error
    try:
        yield TlsListener(listener, tls) if tls is not None else listener
    finally:
        listener.close()


def _lend(
    config: SidecarConfig, world: World, fleet: Fleet, adjuncts: Sequence[Adjunct]
) -> Sidecar:
    """Return what adjuncts may use: the registry, and a watch on the records of their kinds."""
    further = tuple(chain.from_iterable(adjunct.kinds for adjunct in adjuncts))
    watch = Watch(config.cluster, further, instances=len(config.discovery))
    registry = Registry(
        world.network,
        config.discovery,
        config.cluster,
        readers=(fleet, watch),
        timings=config.timings,
        rng=world.rng,
        further=further,
    )
    return Sidecar(config=config, world=world, registry=registry, watch=watch)


async def _each(adjuncts: Sequence[Adjunct], step: str, context: Sidecar) -> None:
    """Run one step of all adjuncts concurrently."""
    async with trio.open_nursery() as nursery:
        for adjunct in adjuncts:
            nursery.start_soon(survive, adjunct, getattr(adjunct, step), context)


async def _until_ready(machines: Machines, nodes_min: int) -> None:
    """Wait until the sidecar covers every active node; log the reason when that takes long.

    A node that is joining now may have read the list of sidecars before this one was in it, and
    may become active without it: wait for that node as well. A later joiner finds this sidecar.
    """
    nodes, logged = machines.nodes, ""
    began = trio.current_time()
    joining = {node for node in nodes.values() if node.record.state is NodeState.JOINING}

    def unready() -> str:
        awaited = [
            name
            for name, node in nodes.items()
            if node in joining and node.record.state is NodeState.JOINING and not node.covered
        ]
        return machines.fleet.unready() or (
            f"not subscribed on {', '.join(awaited)}" if awaited else ""
        )

    while (reason := unready()) or len(nodes.active) < nodes_min:
        if reason != logged and trio.current_time() - began > 1:
            log.warning("sidecar_waiting", reason=reason)
            logged = reason
        await trio.sleep(READY_POLL_SECONDS)


async def _leave_on(
    stop: Stop,
    scope: trio.CancelScope,
    drain: Callable[[], Awaitable[None]],
    listeners: tuple[Listener, ...],
    websocket: WsListener,
) -> None:
    """Shut down on a stop request: refuse new clients, notify the others, disconnect them."""
    await stop.requested.wait()
    log.info("sidecar_leaving")
    await drain()
    for listener in listeners:
        listener.close()
    await websocket.leave()
    scope.cancel()


async def _reload_on(stop: Stop, authenticator: Authenticator, contexts: Contexts) -> None:
    while True:
        await stop.wait_reload()
        authenticator.reload()
        contexts.reload()


async def _stop_at_once(stop: Stop, scope: trio.CancelScope) -> None:
    await stop.now.wait()
    scope.cancel()
