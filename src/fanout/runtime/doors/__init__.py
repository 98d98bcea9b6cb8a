"""The doors for local clients: RESP and websocket."""
