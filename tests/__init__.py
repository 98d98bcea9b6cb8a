"""The tests of fanout."""
