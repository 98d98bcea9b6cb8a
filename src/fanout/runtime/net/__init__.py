"""The network: transports, TLS, listeners, HTTP."""
