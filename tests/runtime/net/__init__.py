"""Tests of `fanout.runtime.net`."""
