"""The real runtime on a network in memory and a clock that jumps."""
