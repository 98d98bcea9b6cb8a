"""Helpers for tests on real processes."""
