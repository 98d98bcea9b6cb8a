"""What clients and channels cost in memory while they do nothing."""

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
    """So many clients that hold so many channels, the same ones; of a system just started.

    Only the processes that clients connect to are counted.
    """

    clients: int = 1
    channels: int = 1

    def run(self, loadgen: Loadgen, system: System, _seconds: float) -> Figures:
        """Let them in; return what the system took before, and what each of them added."""
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
