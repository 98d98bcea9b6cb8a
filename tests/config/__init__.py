"""Tests of the options and their values."""
