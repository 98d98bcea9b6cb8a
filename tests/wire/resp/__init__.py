"""Tests of `fanout.wire.resp`."""
