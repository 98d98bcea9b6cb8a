"""Adjuncts: optional services built on membership and fan-out. Nothing else imports them."""
