"""Helpers for tests of bytes."""
