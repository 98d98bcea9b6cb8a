"""What uses a fleet's membership and fan-out for something beside them; nothing depends on it."""
