"""Pure state machines: values and a time in, values out; no clock, no IO, no logging."""
