"""A pool of addresses in DNS, and what its name resolves to."""

import random
from typing import Any

import trio

from fanout.adjunct.dns import keep, send, wanted
from fanout.adjunct.gateway import INSTANCES, InstanceRecord
from fanout.config import DnsConfig
from fanout.runtime.discovery.watch import Watch
from fanout.values.records import NodeState, Snapshot
from tests.support.adjunct.gateway import instance
from tests.support.adjunct.knot import SECRET, ZONE, Knot

LIMIT_SECONDS = 20.0


class Pool:
    """Discovery's records of the instances of `web`, and the settings of the DNS updater."""

    def __init__(self, port: int, **other: Any) -> None:
        self.config = DnsConfig.from_mapping(
            {
                "discovery": "redis://h", "pool": "web", "zone": ZONE, "dns_key": f"fanout:{SECRET}",
                "server": f"127.0.0.1:{port}", "grace_seconds": 1e-9, **other,
            }
        )  # fmt: skip
        self.watch = Watch("default", (INSTANCES,), instances=1)
        self.said: list[str] = []
        self._version = 0

    def say(self, **states: str) -> None:
        """Have discovery list instances: `b2="active"` has the addresses 192.0.2.2 and ::2."""
        self._version += 1
        records = [
            instance(name, NodeState(state), version=self._version, ips=addresses(name))
            for name, state in states.items()
        ]
        self.list(*records)

    def list(self, *records: InstanceRecord) -> None:
        """Have discovery list records."""
        self.watch.on_snapshot(0, Snapshot(further=records))

    async def send(self) -> None:
        """Update the name once."""
        await send(self.config, *wanted(self.config, self.watch))

    async def keep(self) -> None:
        """Keep the name until cancelled."""
        await keep(self.config, self.watch, random.Random(1), self.said.append)


def addresses(name: str) -> tuple[str, ...]:
    """Return the addresses of an instance: one of IPv4, and one of IPv6 if its name has a `b`."""
    number = name.lstrip("ab")
    return (f"192.0.2.{number}", f"2001:db8::{number}") if "b" in name else (f"192.0.2.{number}",)


async def leads_to(knot: Knot, *wanted: str) -> None:
    """Wait until the name has these addresses of IPv4."""
    with trio.fail_after(LIMIT_SECONDS):
        while (await knot.look_up("web"))[0] != set(wanted):  # noqa: ASYNC110 - not our event
            await trio.sleep(0.02)
