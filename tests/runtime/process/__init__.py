"""Tests of `fanout.runtime.process`."""
