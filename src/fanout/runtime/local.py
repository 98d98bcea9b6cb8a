"""A whole fleet on this machine: discovery, nodes with their agents, and a sidecar."""

import shutil
import sys
from collections.abc import Sequence
from functools import partial

import attrs
import trio

from fanout.config import DiscoveryAddress, NodeConfig, RedisAddress, SidecarConfig
from fanout.runtime.agent.node_service import run_node
from fanout.runtime.process.console import announce_ready, print_line
from fanout.runtime.process.signals import Stop, open_signal_stop
from fanout.runtime.redis.redis_server import find_redis_server, spawn_redis
from fanout.runtime.sidecar.adjuncts import Adjunct
from fanout.runtime.sidecar_service import run_sidecar
from fanout.values.names import Endpoint

ANY_PORT = Endpoint(host="127.0.0.1", port=0)


async def run_local(config: SidecarConfig, *, adjuncts: Sequence[Adjunct] = ()) -> int:
    """Run `config.local` nodes, a sidecar and its adjuncts until stopped; return the exit code.

    Nothing is left behind: the agents run in this process, and the Redis servers write no files
    and exit with it.

    Raises:
        ConfigError: no redis-server was found, or an address cannot be bound.

    """
    async with open_signal_stop() as stop, spawn_redis(ANY_PORT) as discovery:
        print_line(f"discovery redis={discovery.endpoint}")
        address = DiscoveryAddress(RedisAddress(discovery.endpoint))
        nodes_stop = Stop()
        code = 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_relay, stop.now, nodes_stop.now)
            async with trio.open_nursery() as nodes:
                for number in range(1, config.local + 1):
                    node = NodeConfig(
                        id=f"node-{number}",
                        cluster=config.cluster,
                        discovery=(address,),
                        spawn=ANY_PORT,
                        timings=config.timings,
                    )
                    nodes.start_soon(partial(run_node, node, stop=nodes_stop, announce=print_line))
                sidecar = attrs.evolve(config, local=0, discovery=(address,))
                code = await run_sidecar(
                    sidecar,
                    stop=stop,
                    nodes_min=config.local,
                    announce=_announce,
                    adjuncts=adjuncts,
                )
                # The sidecar has shut down, so no node waits for a sidecar while it drains.
                nodes_stop.requested.set()
            nursery.cancel_scope.cancel()
        return code


def _announce(ready: str) -> None:
    """Print the ready line, then commands to try the fleet."""
    fields = dict(field.split("=", 1) for field in ready.split()[1:])
    announce_ready(ready)
    host, _, port = fields["resp"].rpartition(":")
    binary = shutil.which("redis-cli") or find_redis_server().replace("redis-server", "redis-cli")
    redis_cli = f"{binary} -s {port}" if host == "unix" else f"{binary} -h {host} -p {port}"
    print_line("")
    print_line("Try it, in two other terminals:")
    print_line(f"  {redis_cli} SUBSCRIBE news")
    print_line(f"  {redis_cli} PUBLISH news hello")
    print_line("Or over the websocket bridge:")
    print_line(f"  {sys.argv[0]} sub news --sidecar {fields['ws']}")
    print_line("Watch it live, in a terminal or in a browser at the same URL:")
    print_line(f"  {sys.argv[0]} top --admin-url {fields['admin']}")
    print_line("Press Ctrl-C to stop everything.")


async def _relay(first: trio.Event, second: trio.Event) -> None:
    await first.wait()
    second.set()
