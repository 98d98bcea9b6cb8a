"""The throughput of the load generator itself, against a server that does almost nothing."""

import time
from contextlib import ExitStack

from bench import protocols
from bench.figures import Figures, percentiles
from bench.load import Loadgen
from bench.traffic import PAYLOAD_BYTES

DEPTH = 64


def ceiling(loadgen: Loadgen, seconds: float) -> Figures:
    """Return the rates at which one process receives, and publishes with replies, 100-byte messages.

    The mirror server shares the machine with it, so the real ceiling may be higher.
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
