"""Tests of `fanout.core`."""
