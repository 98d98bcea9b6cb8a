"""What the load generator can do alone, against a server that does next to nothing."""

import time
from contextlib import ExitStack

from bench import protocols
from bench.figures import Figures, percentiles
from bench.load import Loadgen
from bench.traffic import PAYLOAD_BYTES

DEPTH = 64


def ceiling(loadgen: Loadgen, seconds: float) -> Figures:
    """Return what one process of it receives, and sends and gets answered; messages of 100 bytes.

    The mirror shares the machine with it, so the ceiling may lie higher.
    """
    data = protocols.payload(PAYLOAD_BYTES)
    with ExitStack() as stack:
        address = stack.enter_context(loadgen.mirror(flood=data * DEPTH))
        sink = stack.enter_context(loadgen.sink(address, (), 1))
        began = sink.counters()
        time.sleep(seconds)
        ended = sink.counters()
        received = (ended.count - began.count) / (ended.last - (began.last or ended.first))
    figures = {"received_per_second": received}
    for clients, depth in ((1, 1), (1, DEPTH), (50, DEPTH)):
        with ExitStack() as stack:
            address = stack.enter_context(loadgen.mirror())
            batch = protocols.Batch(data * depth, depth, protocols.MARK)
            pump = stack.enter_context(loadgen.pump(address, (), clients, batch, seconds))
            pump.say("go")
            done = pump.result(seconds)
            key = f"sent_per_second.{clients}_clients_{depth}_deep"
            figures[key] = done.count * depth / done.seconds
            if depth == 1:
                figures["round_trip_us.p50"] = percentiles(pump.samples())["latency_us.p50"]
    return figures
