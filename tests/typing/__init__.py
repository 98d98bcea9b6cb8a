"""Tests of the types of the public API."""
