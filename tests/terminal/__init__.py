"""Tests of what people see on a terminal."""
