"""The adjuncts, on real processes."""
