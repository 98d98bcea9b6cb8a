"""A network and a Redis in memory: the real runtime runs on them, on a clock that jumps."""
