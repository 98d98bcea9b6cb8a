"""The benchmark: fanout and comparable systems on one machine, as ratios within one run."""
