"""Tests of `fanout.runtime.sidecar`."""
