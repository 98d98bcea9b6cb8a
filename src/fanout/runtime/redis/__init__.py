"""Connections to a Redis, and processes of one."""
