"""Tests of `fanout.runtime.doors`."""
