"""What is said to a Redis, and how its answers are read."""
