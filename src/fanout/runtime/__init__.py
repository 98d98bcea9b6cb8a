"""The trio shell: the only part of fanout that waits."""
