"""Metrics as both commands export them."""
