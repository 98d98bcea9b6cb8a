"""The server side of the Redis protocol: requests and replies of clients."""
