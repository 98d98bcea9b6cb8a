"""What operators and readers of the docs use, on real processes."""
