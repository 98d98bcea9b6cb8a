"""The vocabulary that the pure cores and the wire share: frozen values, no behaviour."""
