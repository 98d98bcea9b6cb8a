"""What stands on fan-out and membership, and what nothing else needs."""
