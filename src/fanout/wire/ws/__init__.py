"""The websocket protocol: frames and JSON, for server and client."""
