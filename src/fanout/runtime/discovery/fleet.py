"""Operations on a fleet through discovery: read its state, ask a node to drain."""

from collections.abc import Awaitable, Callable
from functools import partial

import trio

from fanout.config import DiscoveryAddress, FleetConfig
from fanout.core.report import FleetReport, Reading, report
from fanout.errors import CommandFailed, FanoutError, LinkLost, RemoteProtocolError
from fanout.runtime.discovery.reading import Pipeline, read_indexed
from fanout.runtime.net.world import World, fleet_world
from fanout.runtime.redis.link import Link, use_link
from fanout.values.records import DrainRequest, NodeRecord, SidecarRecord, Snapshot
from fanout.wire import records

REQUEST_SECONDS = 60
"""How long a drain request stays in discovery when no agent reads it."""

__all__ = ["DrainRefused", "DrainTimeout", "FleetReport", "ask_to_drain", "read_fleet"]

POLL_SECONDS = 0.25
"""How often to check whether a draining node is gone."""


class DrainRefused(FanoutError):  # noqa: N818 - an answer, not an error
    """The request to drain was refused before it was sent."""


class DrainTimeout(FanoutError):  # noqa: N818 - a state, not an error
    """The node was asked to drain, and is not gone in time."""


async def read_fleet(config: FleetConfig, *, world: World | None = None) -> FleetReport:
    """Return the state of the fleet in discovery; allow each instance `config.timeout_seconds`."""
    world = world or fleet_world(config)
    readings: dict[int, Reading] = {}

    async def read(number: int, address: DiscoveryAddress) -> None:
        readings[number] = await _read(config, address, world)

    async with trio.open_nursery() as nursery:
        for number, address in enumerate(config.discovery):
            nursery.start_soon(read, number, address)
    return report(config.cluster, [readings[number] for number in sorted(readings)])


async def ask_to_drain(
    config: FleetConfig,
    node: str,
    *,
    force: bool = False,
    wait_seconds: float = 0.0,
    world: World | None = None,
) -> None:
    """Ask a node's agent to drain, and wait up to `wait_seconds` until the node is gone.

    Raises:
        DrainRefused: no such node, or it is the last active one and `force` is not set.
        DrainTimeout: the node is not gone in time; it may still be draining.
        LinkLost: no discovery instance accepted the request.

    """
    world = world or fleet_world(config)
    fleet = await read_fleet(config, world=world)
    found = next((each for each in fleet.nodes if each.id == node), None)
    if found is None:
        known = ", ".join(each.id for each in fleet.nodes) or "none"
        raise DrainRefused(f"no node {node} in cluster {config.cluster}; known: {known}")
    if fleet.is_last_active(found.id) and not force:
        raise DrainRefused(
            f"{node} is the last active node: without it no publish succeeds; start "
            "another node first, or use --force"
        )
    request = DrainRequest(
        cluster=config.cluster, node=found.id, incarnation=found.incarnation, force=force
    )
    await _write(config, request, world)
    if wait_seconds:
        with trio.move_on_after(wait_seconds):
            while True:
                if not _is_present(await read_fleet(config, world=world), request):
                    return
                await trio.sleep(POLL_SECONDS)
        raise DrainTimeout(f"{node} is not gone after {wait_seconds:g} seconds; it may still drain")


def _is_present(fleet: FleetReport, request: DrainRequest) -> bool:
    """Return whether the node's incarnation is in discovery, or discovery is unreadable."""
    if all(not each["readable"] for each in fleet.discovery):
        return True
    return any((n.id, n.incarnation) == (request.node, request.incarnation) for n in fleet.nodes)


async def _read(config: FleetConfig, address: DiscoveryAddress, world: World) -> Reading:
    name = str(address.primary)
    found: list[Reading] = []

    async def read(link: Link) -> None:
        found.append(await _snapshot(config.cluster, name, link))

    error = await _use(config, address, read, world)
    return found[0] if found else Reading(name, error=error)


async def _snapshot(cluster: str, name: str, link: Link) -> Reading:
    """Return the records and the age of each: its lease minus the remaining time to live."""
    nodes: list[NodeRecord] = []
    sidecars: list[SidecarRecord] = []
    present = [each for each in await read_indexed(link, cluster) if each.raw is not None]
    remaining = await Pipeline(link, [("PTTL", each.key) for each in present]).answers()
    ages: dict[tuple[str, int, int], float] = {}
    for each, milliseconds in zip(present, remaining, strict=True):
        try:
            record = each.decode()
        except RemoteProtocolError:
            continue
        age = max(0.0, record.lease_seconds - milliseconds / 1000)
        ages[each.member.decode(), record.incarnation, record.version] = age
        if isinstance(record, NodeRecord):
            nodes.append(record)
        else:
            sidecars.append(record)
    return Reading(name, Snapshot(tuple(nodes), tuple(sidecars)), ages)


async def _write(config: FleetConfig, request: DrainRequest, world: World) -> None:
    """Write a request to every reachable instance. Raises LinkLost when there is none."""
    errors: list[str] = []

    async def put(link: Link) -> None:
        key = records.drain_key(request.cluster, request.node)
        commands: list[tuple[str | bytes | int, ...]] = [
            ("SET", key, records.encode_record(request), "EX", REQUEST_SECONDS),
            ("PUBLISH", records.hint_channel(request.cluster), ""),
        ]
        await Pipeline(link, commands).answers()

    async def ask(address: DiscoveryAddress) -> None:
        if error := await _use(config, address, put, world):
            errors.append(f"{address.primary}: {error}")

    async with trio.open_nursery() as nursery:
        for address in config.discovery:
            nursery.start_soon(partial(ask, address))
    if len(errors) == len(config.discovery):
        raise LinkLost(f"no discovery instance accepted the request ({'; '.join(errors)})")


async def _use(
    config: FleetConfig,
    address: DiscoveryAddress,
    body: Callable[[Link], Awaitable[None]],
    world: World,
) -> str:
    """Run `body` on a link to an instance, with a timeout; return the error, or nothing."""
    limit = config.timeout_seconds
    try:
        with trio.fail_after(limit):
            await use_link(world.network, address.primary, body, timeout_seconds=limit)
    except (LinkLost, CommandFailed) as error:
        return str(error)
    except trio.TooSlowError:
        return f"no answer within {limit:g} seconds"
    return ""
