"""Connections to Redis, and redis-server processes."""
