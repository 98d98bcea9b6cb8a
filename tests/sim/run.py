"""One seed: a fleet, a random schedule of changes and faults, and clients all the while."""

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import trio
import trio.testing
from trio._core import _run as trio_run

from fanout.core.in_flight import Answer
from fanout.errors import LinkLost
from fanout.testing.network import MemoryNetwork
from fanout.testing.redis import FakeRedis
from fanout.wire.redis.client import pack
from tests.sim.end import end
from tests.sim.history import History, Publish, Subscription
from tests.sim.watch import Watch
from tests.support.runtime.fleet import Client, MemoryFleet, Service

SECONDS = 20.0
"""How long changes go on, on the simulated clock."""
CHANNELS = tuple(b"c%d" % number for number in range(6))
FRESH = b"fresh-"
"""With a number behind it: a channel without earlier subscribers, published on as soon as it is confirmed."""
NODES_MAX, SIDECARS_MAX = 5, 4


def serves(sidecar: Service) -> bool:
    """Return whether a sidecar serves clients and was not asked to leave."""
    return sidecar.ready.is_set() and not (
        sidecar.stop.requested.is_set() or sidecar.scope.cancel_called
    )


@attrs.define(eq=False)
class SimClient:
    """A client with a publisher's counters and a subscriber's books."""

    name: str
    sidecar: str
    client: Client
    open: dict[bytes, Subscription] = attrs.field(factory=dict)
    leaving: dict[bytes, list[Subscription]] = attrs.field(factory=dict)
    numbers: dict[bytes, int] = attrs.field(factory=dict)
    gone: bool = False


class Simulation:
    """Runs one seed and keeps its history."""

    def __init__(self, seed: int, *, planned: bool) -> None:
        self.rng = random.Random(seed)
        self.seed = seed
        self.planned = planned
        # Of each sidecar two, and one of each agent: its own, or one that counts sidecars.
        self.history = History(connections=2 * SIDECARS_MAX + NODES_MAX)
        self.agents: dict[str, Service] = {}
        self.sidecars: dict[str, Service] = {}
        self.clients: list[SimClient] = []
        self.busy: set[str] = set()  # nodes that a change is under way on
        self.frozen: set[FakeRedis] = set()
        self.dead: set[FakeRedis] = set()
        self.harmed_at = float("-inf")  # when discovery was last harmed or mended
        self.dumps: list[tuple[FakeRedis, Any]] = []
        self.count = 0
        self.watch = Watch(
            planned=planned,
            whole=planned,
            sidecars=lambda: [name for name, each in self.sidecars.items() if serves(each)],
            confirmed=self.confirmed_at,
            began=lambda payload: self.history.publishes[payload].began,
            steady=self.steady,
            found=self.violation,
        )

    def violation(self, what: str) -> None:
        """Take a violation that was seen while it happened; each once."""
        if what not in self.history.seen:
            self.history.seen.append(what)
            self.note(what)

    def confirmed_at(self, sidecar: str) -> set[bytes]:
        """Return what clients of a sidecar count on."""
        now = trio.current_time()
        return {
            channel
            for who in self.clients
            if who.sidecar == sidecar and not who.gone
            for channel, each in who.open.items()
            if each.confirmed <= now
        }

    def steady(self, since: float) -> list[str]:
        """Return the nodes that nothing has happened to since a time; none if discovery is ill."""
        ill = self.dead | self.frozen
        if self.harmed_at > since or any(s in ill or s.refuse_writes for s in self.fleet.discovery):
            return []
        return [
            name
            for name, agent in self.agents.items()
            if agent.ready_at <= since
            and name not in self.busy
            and self.fleet.redis[name] not in ill
            and self.fleet.connects[name][-1] <= since
            and all(node != name for _, node in self.watch.cuts)
        ]

    def note(self, what: str) -> None:
        """Put an event into the history."""
        self.history.events.append((trio.current_time(), what))

    async def run(self) -> History:
        """Run the whole schedule."""
        slow = self.rng.choice((0.001, 0.01, 0.1))
        self.history.transit_seconds = 2 * slow
        network = MemoryNetwork(delay_seconds=lambda: self.rng.uniform(0, slow))
        async with trio.open_nursery() as nursery:
            self.nursery = nursery
            self.fleet = MemoryFleet(nursery, network=network, seed=self.seed)
            for _ in range(1 if self.planned else self.rng.choice((1, 2))):
                await self.fleet.add_discovery()
            for _ in range(3):
                await self.join()
            for _ in range(2):
                await self.sidecar_joins()
            with trio.move_on_after(SECONDS):
                async with self.traffic(), trio.open_nursery() as changes:
                    changes.start_soon(self.change)
            await end(self)
            nursery.cancel_scope.cancel()
        return self.history

    # Clients.

    @asynccontextmanager
    async def traffic(self, slower: float = 1) -> AsyncIterator[None]:
        """Have clients publish and subscribe meanwhile, so many times more slowly."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.publish, slower)
            nursery.start_soon(self.subscribe, slower)
            yield
            nursery.cancel_scope.cancel()

    async def publish(self, slower: float) -> None:
        """Publish now and then, often several at once."""
        while True:
            await trio.sleep(slower * self.rng.expovariate(20))
            clients = [each for each in self.clients if not each.gone]
            if clients:
                who, channel = self.rng.choice(clients), self.rng.choice(CHANNELS)
                for _ in range(self.rng.choice((1, 1, 3))):
                    self.publish_one(who, channel)

    def publish_one(self, who: SimClient, channel: bytes) -> Publish:
        """Publish one message."""
        number = who.numbers[channel] = who.numbers.get(channel, 0) + 1
        publish = Publish(who.name, channel, number, trio.current_time())
        self.history.publishes[publish.payload] = publish

        def done(answer: Answer) -> None:
            publish.ended = trio.current_time()
            if isinstance(answer, int):
                publish.result = "executed"
            elif str(answer).startswith("NOTPUBLISHED"):
                publish.result = "not"
            if publish.result != "executed":
                self.note(f"{publish.payload!r} {publish.result}: {answer}")

        who.client.link.submit(pack(b"PUBLISH", channel, publish.payload), done)
        who.client.link.flush()
        return publish

    async def subscribe(self, slower: float) -> None:
        """Subscribe and unsubscribe now and then."""
        while True:
            await trio.sleep(slower * self.rng.expovariate(3))
            clients = [each for each in self.clients if not each.gone]
            if not clients:
                continue
            who, channel = self.rng.choice(clients), self.rng.choice(CHANNELS)
            if self.rng.random() < 0.2:
                self.count += 1
                channel = FRESH + b"%d" % self.count
            if channel not in who.open:
                self.subscribe_one(who, channel)
            elif self.rng.random() < 0.5 and who.open[channel].confirmed < float("inf"):
                each = who.open.pop(channel)
                each.leaving = trio.current_time()
                who.leaving.setdefault(channel, []).append(each)
                who.client.link.submit_subscription(b"UNSUBSCRIBE", (channel,))
                who.client.link.flush()

    def subscribe_one(self, who: SimClient, channel: bytes) -> Subscription:
        """Subscribe one client."""
        each = who.open[channel] = Subscription(who.name, channel, trio.current_time())
        self.history.subscriptions.append(each)
        who.client.link.submit_subscription(b"SUBSCRIBE", (channel,))
        who.client.link.flush()
        return each

    def take(self, who: SimClient, pushes: list[list[Any]]) -> None:
        """Take what a client's connection was pushed."""
        for push in pushes:
            self.take_one(who, push)

    def take_one(self, who: SimClient, push: list[Any]) -> None:
        """Take one push."""
        kind, channel = push[0], push[1]
        now = trio.current_time()
        leaving = who.leaving.get(channel, [])
        if kind == b"subscribe":
            who.open[channel].confirmed = now
            clients = [each for each in self.clients if not each.gone]
            if channel.startswith(FRESH) and clients:
                self.publish_one(self.rng.choice(clients), channel)
        elif kind == b"unsubscribe":
            leaving.pop(0).left = now
        elif leaving:
            leaving[0].received.append(push[2])
        elif channel in who.open:
            who.open[channel].received.append(push[2])
        else:
            last = [s for s in self.history.subscriptions if s.subscriber == who.name]
            last[-1].late.append(push[2])

    async def client_joins(self, sidecar: str) -> SimClient | None:
        """Connect a client, unless the sidecar is leaving."""
        self.count += 1
        name = f"client-{self.count}"
        try:
            client = await self.fleet.client(sidecar)
        except LinkLost:
            return None
        if sidecar not in self.sidecars:
            return None  # it has left meanwhile, and ended its clients
        who = SimClient(name, sidecar, client)
        who.client.link.on_pushes = partial(self.take, who)
        self.clients.append(who)
        return who

    def client_ends(self, sidecar: str) -> None:
        """Stop using the clients of a sidecar that leaves."""
        for who in self.clients:
            if who.sidecar == sidecar:
                who.gone = True
                for each in who.open.values():
                    each.leaving = trio.current_time() - 1  # its connection ends as well

    # Changes.

    async def change(self) -> None:
        """Change something, again and again."""
        planned: list[Callable[[], Awaitable[None]]] = [
            self.join, self.drain, self.restart, self.sidecar_joins, self.sidecar_leaves,
        ]  # fmt: skip
        faults: list[Callable[[], Awaitable[None]]] = [
            self.crash_redis, self.freeze_node, self.reset_node, self.crash_agent,
            self.crash_sidecar, self.harm_discovery, self.cut, self.demote_node, self.mend,
        ]  # fmt: skip
        while True:
            await trio.sleep(self.rng.uniform(0.1, 2.5))
            self.nursery.start_soon(self.rng.choice(planned if self.planned else planned + faults))

    async def join(self) -> None:
        """Start a new node."""
        if len(self.agents) < NODES_MAX:
            self.count += 1
            name = f"node-{self.count}"
            self.busy.add(name)
            self.agents[name] = await self.fleet.node(name, wait=False)
            self.watch.over(name, self.fleet.redis[name], self.fleet.discovery)
            self.note(f"{name} joins")
            with trio.move_on_after(SECONDS):
                await self.agents[name].ready.wait()
                self.note(f"{name} is active")
            self.busy.discard(name)

    def _free_node(self) -> str:
        """Choose a node to take away; empty when that would leave too few."""
        free = [name for name in self.agents if name not in self.busy]
        return self.rng.choice(free) if len(free) >= 2 else ""

    async def drain(self) -> None:
        """Drain a node and end its Redis."""
        if name := self._free_node():
            await self._leave(name)

    async def _leave(self, name: str) -> None:
        self.busy.add(name)
        self.note(f"{name} drains")
        agent = self.agents[name]
        await agent.leave()
        self.fleet.kill(self.fleet.redis[name])
        self.note(f"{name} is gone")
        del self.agents[name]
        self.busy.discard(name)

    async def restart(self) -> None:
        """Drain a node and bring it back at its address."""
        if name := self._free_node():
            await self._leave(name)
            self.busy.add(name)
            server = self.fleet.redis[name]
            await self.fleet.restart(server)
            self.agents[name] = await self.fleet.agent(name, wait=False)
            self.note(f"{name} is back")
            with trio.move_on_after(SECONDS):
                await self.agents[name].ready.wait()
            self.busy.discard(name)

    async def sidecar_joins(self) -> None:
        """Start a sidecar with two clients."""
        if len(self.sidecars) < SIDECARS_MAX:
            self.count += 1
            name = f"sidecar-{self.count}"
            self.note(f"{name} starts")
            self.sidecars[name] = await self.fleet.sidecar(name, wait=False)
            with trio.move_on_after(SECONDS):
                await self.sidecars[name].ready.wait()
                self.note(f"{name} is ready")
                for _ in range(2):
                    await self.client_joins(name)

    def _free_sidecar(self) -> str:
        ready = [name for name, each in self.sidecars.items() if each.ready.is_set()]
        return self.rng.choice(ready) if len(ready) > 2 else ""

    async def sidecar_leaves(self) -> None:
        """Have a sidecar leave in order."""
        if name := self._free_sidecar():
            self.note(f"{name} leaves")
            self.client_ends(name)
            await self.sidecars.pop(name).leave()

    # Faults.

    async def crash_sidecar(self) -> None:
        """End a sidecar without a word."""
        if name := self._free_sidecar():
            self.note(f"{name} crashes")
            self.client_ends(name)
            self.sidecars.pop(name).scope.cancel()

    async def crash_redis(self) -> None:
        """End a node's Redis."""
        if name := self._free_node():
            self.note(f"{name}: redis crashes")
            self.fleet.kill(self.fleet.redis[name])
            self.dead.add(self.fleet.redis[name])

    async def crash_agent(self) -> None:
        """End a node's agent and start another one some time later."""
        if name := self._free_node():
            self.busy.add(name)
            self.note(f"{name}: agent crashes")
            self.agents[name].scope.cancel()
            await self.agents[name].ended.wait()
            await trio.sleep(self.rng.uniform(0, 20))
            self.agents[name] = await self.fleet.agent(name, wait=False)
            self.busy.discard(name)

    async def freeze_node(self) -> None:
        """Stop a node's Redis for a while."""
        if name := self._free_node():
            await self._freeze(self.fleet.redis[name])

    async def _freeze(self, server: FakeRedis) -> None:
        self.note(f"{server.endpoint} stands still")
        self.frozen.add(server)
        self.fleet.network.freeze(server.endpoint)
        await trio.sleep(self.rng.uniform(0.5, 15))
        self.fleet.network.thaw(server.endpoint)
        server.changed_at = trio.current_time()  # what it is could not be seen before
        self.frozen.discard(server)
        self.note(f"{server.endpoint} goes on")

    async def demote_node(self) -> None:
        """Have a node's Redis be a replica for a while."""
        if name := self._free_node():
            self.note(f"{name}: redis is made a replica")
            self.fleet.redis[name].demote()
            await trio.sleep(self.rng.uniform(0.5, 15))
            self.fleet.redis[name].promote()

    async def cut(self) -> None:
        """Have a sidecar not reach a node for a while, or not be heard by it."""
        if (name := self._free_node()) and self.sidecars:
            sidecar = self.rng.choice(list(self.sidecars))
            one_way = self.rng.random() < 0.5
            self.cut_off(sidecar, name, one_way=one_way)
            await trio.sleep(self.rng.uniform(0.5, 30))
            self.reach_again(sidecar, name)

    def cut_off(self, sidecar: str, node: str, *, one_way: bool) -> None:
        """Let nothing through from a sidecar to a node, nor back unless it is `one_way`."""
        self.note(f"{sidecar} is cut off from {node}{' one way' if one_way else ''}")
        self.fleet.network.cut(sidecar, node, one_way=one_way)
        self.watch.cuts.setdefault((sidecar, node), trio.current_time())

    def reach_again(self, sidecar: str, node: str) -> None:
        """Undo `cut_off`, if not already undone."""
        if self.watch.cuts.pop((sidecar, node), None) is not None:
            self.fleet.network.mend(sidecar, node)
            self.fleet.redis[node].changed_at = trio.current_time()

    async def reset_node(self) -> None:
        """Break all connections of a node."""
        if name := self._free_node():
            self.note(f"{name}: connections reset")
            self.fleet.network.reset(self.fleet.redis[name].endpoint)

    async def harm_discovery(self) -> None:
        """Do something bad to a discovery instance."""
        server = self.rng.choice(self.fleet.discovery)
        self.harmed_at = trio.current_time()
        match self.rng.choice(("crash", "freeze", "wipe", "dump", "restore", "refuse")):
            case "crash":
                self.note(f"{server.endpoint} crashes")
                self.fleet.kill(server)
                self.dead.add(server)
            case "freeze":
                await self._freeze(server)
            case "wipe":
                self.note(f"{server.endpoint} is wiped")
                server.wipe()
            case "dump":
                self.dumps.append((server, server.dump()))
            case "restore" if self.dumps:
                server, dump = self.rng.choice(self.dumps)
                self.note(f"{server.endpoint} is restored from an old dump")
                server.restore(dump)
            case "refuse":
                self.note(f"{server.endpoint} refuses writes")
                server.refuse_writes = "OOM command not allowed when used memory > 'maxmemory'."
                await trio.sleep(self.rng.uniform(1, 30))
                server.refuse_writes = ""
        self.harmed_at = trio.current_time()

    async def mend(self) -> None:
        """Start what is dead again."""
        dead = sorted(self.dead, key=lambda server: str(server.endpoint))
        self.dead.clear()
        for server in dead:
            self.note(f"{server.endpoint} starts again")
            await self.fleet.restart(server)
            self.harmed_at = trio.current_time()


def simulate(seed: int, *, planned: bool) -> tuple[History, list[str]]:
    """Run one seed; return its history and what it violates."""
    # trio shuffles runnable tasks by a generator of its own; seeded, a run can be repeated.
    vars(trio_run)["_ALLOW_DETERMINISTIC_SCHEDULING"] = True
    trio_run._r.seed(seed)
    simulation = Simulation(seed, planned=planned)
    history = trio.run(simulation.run, clock=trio.testing.MockClock(autojump_threshold=0))
    found = history.violations(planned=planned) + history.seen
    return history, found
