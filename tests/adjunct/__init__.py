"""The adjuncts, alone and against the real servers they talk to."""
