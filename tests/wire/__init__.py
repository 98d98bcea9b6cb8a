"""The wire without a network."""
