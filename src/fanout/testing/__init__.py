"""Fakes that ship with fanout: a Redis and a network in memory."""
