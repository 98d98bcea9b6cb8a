"""Tests of `fanout.runtime.redis`."""
