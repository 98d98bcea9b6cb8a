"""Tests of `fanout.wire.redis`."""
