"""fanout: Redis pub/sub over a fleet of independent nodes."""

__version__ = "0.1.0"
