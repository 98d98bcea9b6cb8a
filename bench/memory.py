"""The memory that idle clients and channels take."""

import time
from contextlib import ExitStack

import attrs

from bench.figures import Figures
from bench.load import Loadgen
from bench.processes import memory_bytes
from bench.systems import System
from bench.traffic import CHANNEL, subscribe

SETTLE_SECONDS = 0.5


@attrs.frozen
class Memory:
    """The memory of idle clients, all subscribed to the same channels, of a system just started.

    Only the processes that clients connect to are measured.
    """

    clients: int = 1
    channels: int = 1

    def run(self, loadgen: Loadgen, system: System, _seconds: float) -> Figures:
        """Connect the clients; return the memory before, and the memory that each added."""
        front = next(iter(system.processes.values()))
        time.sleep(SETTLE_SECONDS)
        before = memory_bytes(front)
        door = system.subscribe[0]
        names = [f"{CHANNEL}{n}" for n in range(self.channels)]
        with ExitStack() as stack:
            subscribe(stack, loadgen, door, self.clients, names)
            time.sleep(SETTLE_SECONDS)
            added = memory_bytes(front) - before
        figures = {"idle_mib": before / 2**20, "added_mib": added / 2**20}
        if self.clients > 1:
            figures["kib_per_client"] = added / self.clients / 2**10
        if self.channels > 1:
            figures["bytes_per_channel"] = added / self.channels
        return figures
