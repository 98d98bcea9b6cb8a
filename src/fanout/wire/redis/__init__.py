"""The client side of the Redis protocol."""
