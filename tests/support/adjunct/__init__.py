"""Helpers for the adjuncts' tests."""
