"""The two machines of a sidecar, its fleet and its fan-out, and their parts."""
