"""The RESP door: requests and replies in Redis' protocol."""
