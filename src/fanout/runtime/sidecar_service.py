"""The sidecar as a whole: what is started in which order, and how it leaves."""

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
"""How often a starting sidecar looks whether it covers every active node."""

FAREWELL_SECONDS = 2.0
"""How long a leaving sidecar waits for discovery to take its goodbye, and its adjuncts'."""


async def run_sidecar(
    config: SidecarConfig,
    *,
    world: World | None = None,
    stop: Stop | None = None,
    announce: Callable[[str], None] = announce_ready,
    nodes_min: int = 1,
    adjuncts: Sequence[Adjunct] = (),
) -> int:
    """Run a sidecar until it is told to stop; return the exit code.

    It is ready once it covers every active node, and at least `nodes_min` of them. `adjuncts`
    run beside the fan-out and cannot harm it, see `fanout.runtime.sidecar.adjuncts`.
    Without `stop` the first SIGTERM or SIGINT makes it leave and a second one ends it at once.

    Raises:
        ConfigError: an address cannot be bound, or the file of users is wrong.

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
        shown = opened.admin()
        beside = (*adjuncts, shown.feed())
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
        admin = await shown.start(nursery, beside, contexts.server)
        world.allow_clients(2 * config.limits.clients_max)  # at each of two doors
        nursery.start_soon(context.registry.run)
        machines.start(nursery)
        nursery.start_soon(presence.run)
        nursery.start_soon(context.watch.run)
        for adjunct in beside:
            nursery.start_soon(keep_running, adjunct, context)
        websocket = opened.websocket(admin)
        async with trio.open_nursery() as doors:
            drain = partial(_each, beside, "drain", context)
            doors.start_soon(_leave_on, stop, doors.cancel_scope, drain, (resp, ws), websocket)
            await presence.introduce()
            await _until_ready(machines, nodes_min)
            await trio.lowlevel.checkpoint_if_cancelled()  # the listeners are closed then
            for listener in (resp, ws):
                listener.listen()
            doors.start_soon(opened.serve_resp)
            doors.start_soon(websocket.serve)
            announce(opened.ready_line(admin))
            log.info("sidecar_ready", nodes=len(machines.nodes.active))
            context.ready.set()
        with trio.move_on_after(FAREWELL_SECONDS):
            async with trio.open_nursery() as farewell:
                farewell.start_soon(presence.say_goodbye)
                farewell.start_soon(_each, beside, "say_goodbye", context)
        nursery.cancel_scope.cancel()
    log.info("sidecar_left")
    return 1 if stop.now.is_set() else 0


@asynccontextmanager
async def _open_listener(
    network: Network, endpoint: Endpoint, option: str, tls: ssl.SSLContext | None
) -> AsyncIterator[Listener]:
    """Bind an address until the block ends, however it does: a Unix socket is a file."""
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
    """Return what adjuncts see of the sidecar: its registry, and a watch over their records."""
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
    """Have all adjuncts take a step at the same time."""
    async with trio.open_nursery() as nursery:
        for adjunct in adjuncts:
            nursery.start_soon(survive, adjunct, getattr(adjunct, step), context)


async def _until_ready(machines: Machines, nodes_min: int) -> None:
    """Wait until the sidecar covers every active node; say why it waits when that takes long.

    A node found joining may have looked for sidecars before this one was known, and become active
    at any moment without it: it is waited for as well. One that joins later finds this one.
    """
    nodes, said = machines.nodes, ""
    began = trio.current_time()
    joining = {node for node in nodes.values() if node.record.state is NodeState.JOINING}

    def unready() -> str:
        waited = [
            name
            for name, node in nodes.items()
            if node in joining and node.record.state is NodeState.JOINING and not node.covered
        ]
        return machines.fleet.unready() or (
            f"not subscribed on {', '.join(waited)}" if waited else ""
        )

    while (reason := unready()) or len(nodes.active) < nodes_min:
        if reason != said and trio.current_time() - began > 1:
            log.warning("sidecar_waiting", reason=reason)
            said = reason
        await trio.sleep(READY_POLL_SECONDS)


async def _leave_on(
    stop: Stop,
    scope: trio.CancelScope,
    drain: Callable[[], Awaitable[None]],
    listeners: tuple[Listener, ...],
    websocket: WsListener,
) -> None:
    """Once asked to stop take no more clients, tell those who can be told, then end them."""
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
