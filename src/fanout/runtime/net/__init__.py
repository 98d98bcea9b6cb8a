"""Bytes to and from the network: transports, TLS, listeners, HTTP."""
