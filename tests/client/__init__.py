"""Tests of `fanout.client`."""
