"""Tests of `fanout.wire.ws`."""
