"""The listeners for local clients: RESP and websocket."""
