"""Helpers for tests on a network in memory."""
