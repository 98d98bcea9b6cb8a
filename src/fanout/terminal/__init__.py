"""The output of the commands: tables and screens for people, JSON for programs."""
