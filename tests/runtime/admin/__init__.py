"""Tests of `fanout.runtime.admin`."""
