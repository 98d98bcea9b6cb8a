"""Tests of what stands on fan-out and membership."""
