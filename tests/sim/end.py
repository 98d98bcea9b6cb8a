"""How a run ends: all faults are over, and the invariants of a fleet at rest are checked.

First that it converges; then that it goes on as it is while discovery is away and when it is back;
last that a sidecar which cannot hear a node, or does not know of it, has the others publish
elsewhere.
"""

from typing import TYPE_CHECKING, Any

import trio

from fanout.values.names import NodeId
from tests.sim.history import Away
from tests.sim.watch import DEAF_SECONDS, unbounded
from tests.support.runtime.fleet import LEASE, until

if TYPE_CHECKING:
    from fanout.testing.redis import FakeRedis
    from tests.sim.run import Simulation

SETTLE_SECONDS = 25.0
"""T of the convergence: everything must be well so long after the last fault."""

SLOWER = 5
"""Less traffic than before is enough when no moment is special."""


async def end(sim: "Simulation") -> None:
    """End a run."""
    await heal(sim)
    await converge(sim)
    await without_discovery(sim)
    sim.watch.whole = False
    sim.history.planned_until = trio.current_time()
    if len(sim.agents) > 1:
        node = sim.rng.choice(sorted(sim.agents))
        await (without_agent if sim.rng.random() < 0.3 else without_hearing)(sim, node)
    nodes = sim.fleet.redis
    sim.history.take_logs({name: list(redis.log) for name, redis in nodes.items()})
    sim.history.connects = {name: sim.fleet.connects[name] for name in nodes}


async def heal(sim: "Simulation") -> None:
    """End all faults and wait until the fleet has settled."""
    await sim.mend()
    for server in sorted(sim.frozen, key=lambda each: str(each.endpoint)):
        sim.fleet.network.thaw(server.endpoint)
        server.changed_at = trio.current_time()
    for sidecar, node in list(sim.watch.cuts):
        sim.reach_again(sidecar, node)
    for server in (*sim.fleet.discovery, *sim.fleet.redis.values()):
        server.promote()
    sim.note("all faults are over")
    await trio.sleep(SETTLE_SECONDS)
    await sim.mend()


async def converge(sim: "Simulation") -> None:
    """I11: every sidecar hears what any publishes, on whatever node it falls."""
    ready = [name for name, each in sim.sidecars.items() if each.ready.is_set()]
    if len(ready) < len(sim.sidecars):
        sim.violation("I11 a sidecar is not ready")
    joined = [await sim.client_joins(name) for name in ready]
    whos = [who for who in joined if who is not None]
    channels = [b"end-%d" % number for number in range(12)]
    for who in whos:
        for channel in channels:
            sim.subscribe_one(who, channel)
    opened = [each for who in whos for each in who.open.values()]
    with trio.move_on_after(10):
        await until(lambda: all(each.confirmed < float("inf") for each in opened))
    sent = [sim.publish_one(who, channel) for who in whos for channel in channels]
    await trio.sleep(5)
    steady = set(sim.agents) - sim.busy
    sim.history.seen += unbounded(sim.fleet.redis, steady, len(sim.sidecars))
    wrong = [each for each in sent if each.result != "executed"]
    short = [each for each in opened if len(each.received) != len(whos)]
    if wrong or short:
        sim.violation(f"I11 not converged: {wrong[:3]} {short[:3]}")


async def without_discovery(sim: "Simulation") -> None:
    """I12: no discovery can be reached, then it is back, empty or with what it knew."""
    with trio.move_on_after(60):
        await until(lambda: not sim.busy and all(a.ready.is_set() for a in sim.agents.values()))
    if late := sorted(sim.busy | {n for n, a in sim.agents.items() if not a.ready.is_set()}):
        sim.violation(f"I11 {late} are not active")
        return
    sim.watch.whole = True
    nodes = tuple(NodeId(name) for name in sorted(sim.agents))
    began = trio.current_time()
    async with sim.traffic(SLOWER):
        back = [_take_away(sim, server) for server in sim.fleet.discovery]
        await trio.sleep(sim.rng.uniform(1, 30))
        for server, is_killed, keys in back:
            sim.note(f"{server.endpoint} is back")
            if not is_killed:
                sim.fleet.network.thaw(server.endpoint)
                continue
            await sim.fleet.restart(server)
            server.restore(keys)
        await trio.sleep(1.2 * LEASE)
        ended = trio.current_time()
    await trio.sleep(2)  # what is on its way arrives
    sim.history.away.append(Away(began, ended, nodes))


def _take_away(sim: "Simulation", server: "FakeRedis") -> tuple["FakeRedis", bool, Any]:
    """Kill or stop a discovery instance; return how, and what it will come back with."""
    keys = sim.rng.choice([{}, server.dump(), *(dump for _, dump in sim.dumps)])
    is_killed = sim.rng.random() < 0.7
    sim.note(f"{server.endpoint} is away")
    if is_killed:
        sim.fleet.kill(server)
    else:
        sim.fleet.network.freeze(server.endpoint)
    return server, is_killed, keys


async def without_hearing(sim: "Simulation", node: str) -> None:
    """I15: a sidecar is cut off from a node, with discovery or without; `Watch.deaf` looks on."""
    sidecar = sim.rng.choice(sorted(sim.sidecars))
    async with sim.traffic(SLOWER):
        if sim.rng.random() < 0.5:
            for server in sim.fleet.discovery:
                sim.fleet.kill(server)
        sim.harmed_at = float("-inf")  # all know what there is to know
        sim.cut_off(sidecar, node, one_way=sim.rng.random() < 0.5)
        await trio.sleep(DEAF_SECONDS + 4)
    sim.reach_again(sidecar, node)


async def without_agent(sim: "Simulation", node: str) -> None:
    """I15: a sidecar starts when discovery has forgotten a node that the others still hear."""
    sim.note(f"{node}: agent crashes for good")
    sim.busy.add(node)
    sim.agents[node].scope.cancel()
    await trio.sleep(1.2 * LEASE)
    await sim.sidecar_leaves()  # makes room
    before = set(sim.sidecars)
    await sim.sidecar_joins()
    (sidecar,) = set(sim.sidecars) - before
    sim.watch.cuts[sidecar, node] = trio.current_time()
    async with sim.traffic(SLOWER):
        await trio.sleep(DEAF_SECONDS + 4)
