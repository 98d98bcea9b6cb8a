"""Encode values as bytes and decode them; no I/O."""
