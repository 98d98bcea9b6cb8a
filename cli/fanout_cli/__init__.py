"""The commands fanout-node and fanout-sidecar."""
