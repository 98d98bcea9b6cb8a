"""Pure machines: they take values and a time, and return values; no clock, no IO, no logging."""
