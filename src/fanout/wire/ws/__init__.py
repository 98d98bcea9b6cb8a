"""The websocket door: frames, JSON, and the client's side of both."""
