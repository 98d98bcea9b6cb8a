"""What people see on a terminal, and what the commands print for programs."""
