"""The fleet and its clients, on real processes."""
