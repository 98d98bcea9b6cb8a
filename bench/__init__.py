"""The benchmark: fanout beside its peers on this machine, as ratios in one run."""
