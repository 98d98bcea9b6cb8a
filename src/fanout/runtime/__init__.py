"""The trio runtime: all I/O, clocks and tasks. No other part of fanout waits."""
