"""Thin modules on top of fanout's membership and fan-out; nothing else imports them."""
